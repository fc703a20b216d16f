"""Chats of SmolLM2-135M-Instruct: what people say is told from what its template writes."""

from pathlib import Path
from typing import Any

import pytest

from backend.corpus.chat_template import TEMPLATE_ROLE, chat_renderer, label_speakers

CHATS = {
    "no system message": [("user", "Hi there")],
    "the header's own word": [("user", "user"), ("assistant", "assistant"), ("user", "system")],
    "parts of special tokens": [("system", "im_end"), ("user", "<|im start|>")],
    "spaces and lines": [("system", "Be  brief.\n\nVery."), ("user", " Tell me\n")],
    "other scripts": [("user", "Größe 你好 👩‍👩‍👧"), ("assistant", "ok")],
    "nothing": [("user", ""), ("assistant", "Hello")],
}


@pytest.fixture(scope="module")
def smollm(real_models: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(real_models / "smollm2-135m-instruct")


@pytest.mark.parametrize("name", CHATS)
def test_messages_are_told_from_the_template(smollm: Any, name: str) -> None:
    messages = [{"role": role, "content": content} for role, content in CHATS[name]]
    text = smollm.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = smollm(text, add_special_tokens=False)["input_ids"]
    roles = label_speakers(smollm, messages, text)
    for role in ("system", "user", "assistant"):
        said = smollm.decode([i for i, r in zip(ids, roles, strict=True) if r == role])
        wanted = "".join(content for r, content in CHATS[name] if r == role)
        assert said.replace("\n", "").strip() == wanted.replace("\n", "").strip()
    assert roles[-4:] == [TEMPLATE_ROLE] * 4  # <|im_start|>, ass, istant, line break


def test_a_corpus_of_chats_is_what_the_template_makes_of_it(smollm: Any) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert chat_renderer(smollm)(messages) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    )

"""Tokens as text: the bytes behind ids, and display that never loses or breaks a character."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from backend.model.vocabulary import BYTE_LEVEL_ALPHABET, vocabulary_bytes
from feature_store.vocabulary import Vocabulary

TEXTS = ["the dog ran home. ", "a cat sat\n\ton the mat ", "é ü ñ 漢字 🐕 it's 42 "] * 20
anything = st.text(st.characters(codec="utf-8"), max_size=40)


def byte_level() -> PreTrainedTokenizerFast:
    """Like GPT-2's: bytes spelt as letters, merges learnt on a few sentences."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
    )
    core.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")


def sentencepiece() -> PreTrainedTokenizerFast:
    """Like Llama's: U+2581 for spaces, single bytes as <0x0A>, no prefix space."""
    pieces = ["<s>", *(f"<0x{b:02X}>" for b in range(256))]
    pieces += ["▁", "▁▁", "▁the", "▁dog", "d", "o", "g", "t", "h", "e", "th", "he", "do", "漢", "é"]
    merges = [("▁", "▁"), ("t", "h"), ("h", "e"), ("d", "o")]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")


TOKENIZERS = {"byte-level": byte_level(), "sentencepiece": sentencepiece()}
PIECES = {name: vocabulary_bytes(t, len(t)) for name, t in TOKENIZERS.items()}


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=anything)
def test_the_bytes_of_a_texts_tokens_are_the_text(kind: str, text: str) -> None:
    ids = TOKENIZERS[kind](text.replace("▁", ""), add_special_tokens=False)["input_ids"]
    joined = b"".join(PIECES[kind][i] for i in ids)
    assert joined == text.replace("▁", "").encode()


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=anything)
def test_display_joins_to_the_text_one_string_a_token(kind: str, text: str) -> None:
    text = text.replace("▁", "")
    ids = TOKENIZERS[kind](text, add_special_tokens=False)["input_ids"]
    shown = Vocabulary(PIECES[kind]).display(np.array(ids, dtype=np.int64))
    assert len(shown) == len(ids) and "".join(shown) == text


@given(st.lists(st.integers(0, 255), max_size=30))
def test_bytes_that_make_no_character_are_written_out(raw: list[int]) -> None:
    """Whatever the bytes: one string a token, and the readable parts stay readable."""
    vocabulary = Vocabulary([bytes([b]) for b in range(256)])
    shown = vocabulary.display(np.array(raw, dtype=np.int64))
    back = bytearray()
    for i, text in enumerate(shown):
        broken = raw[i] > 127 and text == f"<0x{raw[i]:02X}>"
        back += bytes([raw[i]]) if broken else text.encode()
    assert bytes(back) == bytes(raw)


def test_a_character_stands_on_the_token_it_begins_in() -> None:
    vocabulary = Vocabulary([b" a", b"\xf0\x9f", b"\x90\x95", b"b"])
    assert vocabulary.display(np.array([0, 1, 2, 3])) == [" a", "🐕", "", "b"]
    assert vocabulary.display(np.array([0, 1, 3])) == [" a", "<0xF0><0x9F>", "b"]
    assert [vocabulary.text(i) for i in range(3)] == [" a", "<0xF0><0x9F>", "<0x90><0x95>"]


def test_ids_beyond_the_tokenizer_and_added_tokens() -> None:
    """Embeddings are padded; added tokens stand for themselves, whatever letters they hold."""
    tokenizer = byte_level()
    tokenizer.add_tokens(["Ġodd"])
    pieces = vocabulary_bytes(tokenizer, len(tokenizer) + 2)
    assert pieces[0] == b"<|endoftext|>"
    assert pieces[len(tokenizer) - 1] == "Ġodd".encode()
    assert pieces[-1] == f"<unused {len(tokenizer) + 1}>".encode()
    assert len(vocabulary_bytes(tokenizer, 10)) == 10


def test_the_letters_of_bytes_are_the_ones_that_tokenizers_use() -> None:
    assert set(BYTE_LEVEL_ALPHABET) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTE_LEVEL_ALPHABET.values()) == list(range(256))

"""A prompt and its target as the methods take them."""

from typing import TYPE_CHECKING

from app.circuits.asked import CircuitRequest
from backend.ablation.ablation_requests import PromptCase
from backend.engine_protocol import TokenizedText

if TYPE_CHECKING:
    from backend.engine import LocalEngine


def text_of(engine: "LocalEngine", case: PromptCase) -> TokenizedText:
    """A case's tokens, up to where the answer follows."""
    if not case.tokens:
        return engine.read(case.prompt)
    last = len(case.tokens) - 1 if case.at is None else case.at
    return engine.text(list(case.tokens[: last + 1]))


def target_of(
    engine: "LocalEngine", asked: CircuitRequest, case: PromptCase
) -> tuple[list[int], list[int]]:
    """Ids of the answers and of what they are compared with; none where none are named."""
    from backend.attribution.target_metric import tokenize_single_token_answer

    answers = asked.targets or ((case.answer,) if case.answer else ())
    against = asked.against or ((case.wrong,) if case.wrong else ())
    prompt = case.prompt or str(engine.lm.tokenizer.decode(list(case.tokens)))
    found = [
        [tokenize_single_token_answer(engine.lm.tokenizer, prompt, text) for text in texts]
        for texts in (answers, against)
    ]
    return found[0], found[1]

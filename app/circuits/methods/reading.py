"""A prompt and its target as the methods take them."""

from typing import TYPE_CHECKING

from app.circuits.asked import Asked
from backend.ablation.asked import Case
from backend.live import Text

if TYPE_CHECKING:
    from backend.engine import LocalEngine


def text_of(engine: "LocalEngine", case: Case) -> Text:
    """A case's tokens, up to where the answer follows."""
    if not case.tokens:
        return engine.read(case.prompt)
    last = len(case.tokens) - 1 if case.at is None else case.at
    return engine.text(list(case.tokens[: last + 1]))


def target_of(engine: "LocalEngine", asked: Asked, case: Case) -> tuple[list[int], list[int]]:
    """Ids of the answers and of what they are compared with; none where none are named."""
    from backend.attribution.targets import one_token

    answers = asked.targets or ((case.answer,) if case.answer else ())
    against = asked.against or ((case.wrong,) if case.wrong else ())
    prompt = case.prompt or str(engine.lm.tokenizer.decode(list(case.tokens)))
    found = [
        [one_token(engine.lm.tokenizer, prompt, text) for text in texts]
        for texts in (answers, against)
    ]
    return found[0], found[1]

"""What an ablation is asked: plain records with a spelling in JSON, importable without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from backend.ablation.model_parts import (
    AblationKind,
    ModelPart,
    check_ablation_kind,
    check_model_parts,
)
from feature_store.errors import InputError, pick_by_name, suggest_near_miss
from feature_store.strict_json import JsonError, parse_json

MAX_DATASET_PROMPTS = 2_000
"""Prompts of a data set."""
MAX_DETAILED_PROMPTS = 64
"""Prompts of which a page shows every token."""
POSITION_CHOICES = ("counted", "all")
TEXT_FIELDS = ("prompt", "answer", "wrong", "pair", "label")


@dataclass(frozen=True)
class PromptCase:
    """One prompt, and what should follow it. Texts are tokenised as they follow each other."""

    prompt: str = ""
    answer: str = ""
    """Empty: the token that stands behind `at`, else the model's likeliest."""
    wrong: str = ""
    """Empty: the target is the answer's log probability, else the difference of both logits."""
    pair: str = ""
    """The prompt whose values are patched in."""
    label: str = ""
    tokens: tuple[int, ...] = ()
    """In place of `prompt`: a stored sequence's tokens, BOS among them."""
    at: int | None = None
    """The position whose next token is the target; the last one, if not given."""


@dataclass(frozen=True)
class AblationRequest:
    """Which parts go, how, on what. `from_json(to_json())` is the same."""

    cases: tuple[PromptCase, ...]
    parts: tuple[ModelPart, ...]
    how: AblationKind = "zero"
    seed: int = 0
    """Of what is drawn: donors, controls, intervals."""
    controls: int = 0
    """Sets of matched random active features to compare with; 0: none."""
    positions: str = "counted"
    """Where the parts go: counted tokens, or all, BOS and special ones among them."""

    def check(self) -> "AblationRequest":
        """InputError for what no model could run."""
        check_model_parts(self.parts)
        check_ablation_kind(self.how)
        pick_by_name(
            "choice of positions", self.positions, dict.fromkeys(POSITION_CHOICES, self.positions)
        )
        check_prompt_cases(self.cases, MAX_DATASET_PROMPTS)
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "cases": [prompt_case_to_json(case) for case in self.cases],
            "parts": [str(part) for part in self.parts],
            "how": self.how,
            "seed": self.seed,
            "controls": self.controls,
            "positions": self.positions,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "AblationRequest":
        """InputError for what `to_json` does not write."""
        try:
            return cls(
                tuple(
                    parse_prompt_case(case, f"case {i}") for i, case in enumerate(given["cases"], 1)
                ),
                tuple(ModelPart.parse(part) for part in given["parts"]),
                check_ablation_kind(given["how"]),
                int(given.get("seed", 0)),
                int(given.get("controls", 0)),
                str(given.get("positions", "counted")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as bad:
            raise InputError(f"This is no request for an ablation: {bad!r}.") from bad


@dataclass(frozen=True)
class EffectRankingRequest:
    """Which features' effects are asked, how they are estimated, and how many measured."""

    cases: tuple[PromptCase, ...]
    dictionaries: tuple[str, ...]
    method: str = "gradient"
    """gradient or integrated."""
    exact: int = 50
    """The strongest by estimate that are also measured."""
    unit: str = "feature"
    """feature: away at all tokens; node: at one token."""
    how: AblationKind = "zero"
    seed: int = 0
    """Of the prompts that are drawn where values come from others."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, without a seed that nothing depends on."""
        drawn = {"seed": self.seed} if self.how == "resample" else {}
        return {
            "cases": [prompt_case_to_json(case) for case in self.cases],
            "dictionaries": list(self.dictionaries),
            "method": self.method,
            "exact": self.exact,
            "unit": self.unit,
            **({} if self.how == "zero" else {"how": self.how, **drawn}),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "EffectRankingRequest":
        """InputError for what `to_json` does not write."""
        try:
            return cls(
                tuple(
                    parse_prompt_case(case, f"case {i}") for i, case in enumerate(given["cases"], 1)
                ),
                tuple(str(name) for name in given["dictionaries"]),
                str(given["method"]),
                int(given["exact"]),
                str(given["unit"]),
                check_ablation_kind(given.get("how", "zero")),
                int(given.get("seed", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as bad:
            raise InputError(f"This is no request for effects: {bad!r}.") from bad


def check_prompt_cases(cases: Sequence[PromptCase], most: int) -> None:
    """InputError for no prompt, too many, an empty one, and wrong answers for some only."""
    if not cases:
        raise InputError("There is no prompt. Give at least one.")
    if len(cases) > most:
        raise InputError(f"{len(cases):,} prompts; at most {most:,} go here. Give fewer.")
    for number, case in enumerate(cases, 1):
        if not case.prompt and not case.tokens:
            raise InputError(f"Prompt {number} is empty: type a text.")
        if case.wrong and not case.answer:
            raise InputError(f"Prompt {number} has a wrong answer and no right one: give both.")
    if len({bool(case.wrong) for case in cases}) > 1:
        raise InputError("Give a wrong answer for every prompt, or for none.")


def prompt_case_to_json(case: PromptCase) -> dict[str, Any]:
    """Plain data without what is as usual."""
    given = asdict(case)
    usual = {f.name: f.default for f in fields(PromptCase)}
    found = {name: value for name, value in given.items() if value != usual[name]}
    if case.tokens:
        found["tokens"] = list(case.tokens)
    return found


def parse_prompt_case(given: object, where: str) -> PromptCase:
    """A case from plain data; InputError with `where` in front for what is none."""
    if not isinstance(given, Mapping):
        raise InputError(f"{where} is not an object with a prompt.")
    known = [f.name for f in fields(PromptCase)]
    for name in given:
        if name not in known:
            raise InputError(
                f"{where} has a field {name!r}.{suggest_near_miss(str(name), known)} "
                f"There are: {', '.join(TEXT_FIELDS)}."
            )
    for name in TEXT_FIELDS:
        if not isinstance(given.get(name, ""), str):
            raise InputError(f"{where}: {name} is not a text.")
    tokens, at = given.get("tokens", ()), given.get("at")
    if not isinstance(tokens, list | tuple) or not all(type(t) is int and t >= 0 for t in tokens):
        raise InputError(f"{where}: tokens is not a list of token ids.")
    if at is not None and (type(at) is not int or at < 0):
        raise InputError(f"{where}: at is not a position.")
    texts = {name: given.get(name, "") for name in TEXT_FIELDS}
    return PromptCase(**texts, tokens=tuple(tokens), at=at)


def read_prompt_cases(name: str, content: bytes) -> tuple[PromptCase, ...]:
    """The cases of an uploaded file: an object a line. InputError with file and line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{name} is not text in UTF-8. Save it as UTF-8.") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except JsonError as bad:
            raise InputError(f"{name} line {number} is not JSON: {bad.reason}.") from bad
        found.append(parse_prompt_case(row, f"{name} line {number}"))
    check_prompt_cases(found, MAX_DATASET_PROMPTS)
    return tuple(found)

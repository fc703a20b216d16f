"""Requests of the Ablate page: the prompts, the ablation of model parts, and the ranking of
effects, as plain records that convert to and from JSON. Importable without torch.
"""

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
"""Maximum number of prompts in a data set for ablation."""
MAX_DETAILED_PROMPTS = 64
"""Maximum number of prompts for which an ablation reports every token."""
POSITION_CHOICES = ("counted", "all")
"""Choices of token positions to ablate: counted tokens only, or all tokens including BOS and
special ones.
"""
TEXT_FIELDS = ("prompt", "answer", "wrong", "pair", "label")
"""Text fields of a prompt case in JSON."""


@dataclass(frozen=True)
class PromptCase:
    """A prompt with the answer (and optionally the wrong answer) that an ablation request measures.

    Texts are tokenized as they follow one another, so an answer usually begins with a space.
    """

    prompt: str = ""
    answer: str = ""
    """Text of the answer token. Empty: the token that follows position `at`, or else the most
    likely next token.
    """
    wrong: str = ""
    """Text of the wrong answer token. If given, the target is the logit difference; if empty, the
    answer's log probability.
    """
    pair: str = ""
    """Second prompt, whose activations are patched in by the ablation kind "pair"."""
    label: str = ""
    tokens: tuple[int, ...] = ()
    """Token ids of a stored sequence, including BOS, to use instead of `prompt`."""
    at: int | None = None
    """Position whose next token is the target; the last position if None."""


@dataclass(frozen=True)
class AblationRequest:
    """A request for an ablation: which model parts to replace, how, and on which prompts.

    `AblationRequest.from_json(request.to_json())` equals `request`.
    """

    cases: tuple[PromptCase, ...]
    parts: tuple[ModelPart, ...]
    how: AblationKind = "zero"
    seed: int = 0
    """Random seed for the choice of donor prompts, controls and bootstrap resamples."""
    controls: int = 0
    """Number of sets of matched random active features to compare with; 0 for none."""
    positions: str = "counted"
    """Token positions at which parts are replaced; one of POSITION_CHOICES."""

    def check(self) -> "AblationRequest":
        """Return the ablation request if it is valid.

        Raises InputError for invalid parts, ablation kind, positions or prompts.
        """
        check_model_parts(self.parts)
        check_ablation_kind(self.how)
        pick_by_name(
            "choice of positions", self.positions, dict.fromkeys(POSITION_CHOICES, self.positions)
        )
        check_prompt_cases(self.cases, MAX_DATASET_PROMPTS)
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the ablation request as plain data for JSON."""
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
        """Build an ablation request from the plain data that `to_json` returns.

        Raises InputError for missing or invalid fields.
        """
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
            raise InputError(f"This is not an ablation request: {_describe_error(bad)}.") from bad


@dataclass(frozen=True)
class EffectRankingRequest:
    """A request to rank features by their estimated effect on the target, and to measure the
    strongest.
    """

    cases: tuple[PromptCase, ...]
    dictionaries: tuple[str, ...]
    method: str = "gradient"
    """Estimation method: "gradient" (gradient × activation) or "integrated" (integrated gradients).
    """
    exact: int = 50
    """Number of features with the largest estimates whose effect is also measured by ablation."""
    unit: str = "feature"
    """What is ranked: "feature" (ablated at all tokens) or "node" (a feature at a single token)."""
    how: AblationKind = "zero"
    seed: int = 0
    """Random seed for the choice of donor prompts with the ablation kind "resample"."""

    def to_json(self) -> dict[str, Any]:
        """Return the ranking request as plain data for JSON; the seed is left out where nothing
        depends on it.
        """
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
        """Build a ranking request from the plain data that `to_json` returns.

        Raises InputError for missing or invalid fields.
        """
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
            raise InputError(
                f"This is not a request to rank effects: {_describe_error(bad)}."
            ) from bad


def check_prompt_cases(cases: Sequence[PromptCase], most: int) -> None:
    """Check the prompts of an ablation or ranking request.

    Raises InputError if there is no prompt, if there are more than `most`, if one is empty, or if
    only some prompts have a wrong answer.
    """
    if not cases:
        raise InputError("There is no prompt: give at least one.")
    if len(cases) > most:
        raise InputError(f"{len(cases):,} prompts are too many: give at most {most:,}.")
    for number, case in enumerate(cases, 1):
        if not case.prompt and not case.tokens:
            raise InputError(f"Prompt {number} is empty: type a text.")
        if case.wrong and not case.answer:
            raise InputError(f"Prompt {number} has a wrong answer but no answer: give both.")
    if len({bool(case.wrong) for case in cases}) > 1:
        raise InputError("Give a wrong answer for every prompt, or for none.")


def prompt_case_to_json(case: PromptCase) -> dict[str, Any]:
    """Return a prompt case of an ablation request as plain data for JSON, without fields that have
    their default value.
    """
    given = asdict(case)
    usual = {f.name: f.default for f in fields(PromptCase)}
    found = {name: value for name, value in given.items() if value != usual[name]}
    if case.tokens:
        found["tokens"] = list(case.tokens)
    return found


def parse_prompt_case(given: object, where: str) -> PromptCase:
    """Build a prompt case of an ablation request from plain data.

    Raises InputError, which begins with `where`, for unknown fields and wrong types.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{where} is not a JSON object with a prompt.")
    known = [f.name for f in fields(PromptCase)]
    for name in given:
        if name not in known:
            raise InputError(
                f"{where} has the unknown field {name!r}.{suggest_near_miss(str(name), known)} "
                f"There are: {', '.join(TEXT_FIELDS)}."
            )
    for name in TEXT_FIELDS:
        if not isinstance(given.get(name, ""), str):
            raise InputError(f"{where}: {name} is not a text.")
    tokens, at = given.get("tokens", ()), given.get("at")
    if not isinstance(tokens, list | tuple) or not all(type(t) is int and t >= 0 for t in tokens):
        raise InputError(f"{where}: tokens is not a list of token ids.")
    if at is not None and (type(at) is not int or at < 0):
        raise InputError(f"{where}: at is not a position (a whole number from 0).")
    texts = {name: given.get(name, "") for name in TEXT_FIELDS}
    return PromptCase(**texts, tokens=tuple(tokens), at=at)


def read_prompt_cases(name: str, content: bytes) -> tuple[PromptCase, ...]:
    """Read the prompt cases of an ablation request from an uploaded .jsonl file with one JSON
    object a line.

    Raises InputError that names the file and the line.
    """
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


def _describe_error(bad: Exception) -> str:
    if isinstance(bad, KeyError):
        return f"the field {bad} is missing"
    return str(bad).rstrip(".")

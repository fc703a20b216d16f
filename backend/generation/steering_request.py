"""The steering request: prompt, edits, sampling and watched features, which together with the
weights determine a steering run.

Pages, commands, saved experiments and scripts all use this record, so that each can repeat a run of
another. Importable without torch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from backend.generation.records import GenerationRow, SamplingSettings
from backend.interventions.records import Edit, FrozenLayers, read_record_fields
from feature_store.errors import InputError
from feature_store.records import FeatureId

DEFAULT_ROW, STEERED_ROW = "default", "steered"
"""Names of the two texts of a steering run: the default text and the steered text."""
DEFAULT_TOP_TOKENS = 15
"""Number of most likely next tokens that are recorded at each position."""


@dataclass(frozen=True)
class SteeringRequest:
    """A request for a steering run. `SteeringRequest.from_json(request.to_json())` equals
    `request`.
    """

    prompt: str | tuple[Mapping[str, str], ...]
    """A text, or the turns of a chat as ({role, content}, …)."""
    edits: tuple[Edit, ...] = ()
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    watch: tuple[FeatureId, ...] = ()
    """Features whose activations are only read; those of the edits are read too."""
    bos: bool = True
    """Whether a plain prompt begins with a BOS token, as in the training of the dictionaries."""
    freeze: FrozenLayers = field(default_factory=FrozenLayers)
    top: int = DEFAULT_TOP_TOKENS

    @property
    def watched(self) -> tuple[FeatureId, ...]:
        """All features whose activations the steering run reads, edited ones first."""
        edited = (feature for edit in self.edits for feature in edit.features)
        return tuple(dict.fromkeys([*edited, *self.watch]))

    @property
    def dictionaries(self) -> list[str]:
        """Sorted names of the dictionaries that the steering run needs, including those of
        gates.
        """
        gates = [edit.where.gate for edit in self.edits if edit.where.gate is not None]
        return sorted({feature.dictionary for feature in [*self.watched, *gates]})

    @property
    def rows(self) -> tuple[GenerationRow, ...]:
        """The texts to generate: the default one, and the steered one if there is an edit."""
        return (
            GenerationRow(DEFAULT_ROW),
            *([GenerationRow(STEERED_ROW, self.edits)] if self.edits else []),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the steering request as plain data for JSON; saved as an experiment's
        `request`.
        """
        prompt = self.prompt
        return {
            "prompt": prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt],
            "edits": [edit.to_json() for edit in self.edits],
            "sampling": {**asdict(self.sampling), "stop": list(self.sampling.stop)},
            "watch": [str(feature) for feature in self.watch],
            "bos": self.bos,
            "freeze": {
                name: None if layers is None else list(layers)
                for name, layers in asdict(self.freeze).items()
            },
            "top": self.top,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SteeringRequest":
        """Build a steering request from the plain data that `to_json` returns; missing fields get
        their defaults.

        Raises InputError for unknown fields and wrong types.
        """
        given = read_record_fields(cls, data, "A steering run")
        if "prompt" not in given:
            raise InputError("A steering run needs a prompt: a text, or the turns of a chat.")
        try:
            return cls(
                prompt=_parse_prompt(given["prompt"]),
                edits=tuple(Edit.from_json(one) for one in given.get("edits") or ()),
                sampling=parse_sampling(given.get("sampling") or {}),
                watch=tuple(FeatureId.parse(str(one)) for one in given.get("watch") or ()),
                bos=bool(given.get("bos", True)),
                freeze=_parse_freeze(given.get("freeze") or {}),
                top=int(given.get("top", DEFAULT_TOP_TOKENS)),
            )
        except (LookupError, TypeError, ValueError) as bad:
            if isinstance(bad, InputError):
                raise
            reason = f"the field {bad} is missing" if isinstance(bad, KeyError) else str(bad)
            raise InputError(f"This is not a steering request: {reason}.") from bad


def parse_sampling(data: Mapping[str, Any]) -> SamplingSettings:
    """Build valid sampling settings from the plain data of a steering request; raise InputError for
    unknown or invalid fields.
    """
    given = read_record_fields(SamplingSettings, data)
    found = SamplingSettings(**{**given, "stop": tuple(given.get("stop", ()))})
    found.check()
    return found


def _parse_prompt(given: Any) -> str | tuple[Mapping[str, str], ...]:
    if isinstance(given, str):
        return given
    return tuple({"role": str(turn["role"]), "content": str(turn["content"])} for turn in given)


def _parse_freeze(data: Mapping[str, Any]) -> FrozenLayers:
    given = read_record_fields(FrozenLayers, data)
    pairs = {name: (int(at[0]), int(at[1])) for name, at in given.items() if at is not None}
    return FrozenLayers(**pairs)

"""What pages ask of a live model, and what they get: plain data, importable without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from feature_store.records import Context, FeatureId
from feature_store.removals import Removal


@dataclass(frozen=True)
class Text:
    """A text as the model reads it."""

    token_ids: list[int]
    """BOS in front, where the dictionaries were trained with one."""
    counted: list[bool]
    """False for BOS and special tokens, which no statistic counts."""


@dataclass(frozen=True)
class Firing:
    """Non-zero activations of one dictionary on a text, ordered by position, then feature."""

    position: np.ndarray
    feature: np.ndarray
    value: np.ndarray

    def of(self, feature: int) -> dict[int, float]:
        """One feature's activations by position."""
        mine = self.feature == feature
        return dict(zip(self.position[mine].tolist(), self.value[mine].tolist(), strict=True))


@dataclass(frozen=True)
class Ranked:
    """The entries of largest magnitude of a vector, largest first."""

    index: list[int]
    value: list[float]
    of: int
    """Entries there are."""


@dataclass(frozen=True)
class Neurons:
    """The MLP neurons of a layer nearest to a direction, by cosine."""

    layer: int
    nearest: Ranked


@dataclass(frozen=True)
class Weights:
    """A feature's encoder column and decoder row in the model's own units; None: does not apply."""

    encoder: Ranked | None
    decoder: Ranked
    encoder_heads: list[float] | None
    """Each head's share of the norms of its blocks; so `decoder_heads`."""
    decoder_heads: list[float] | None
    readers: Neurons | None
    """Neurons that read the encoder's direction."""
    writers: Neurons | None
    """Neurons that write the decoder's direction."""


@dataclass(frozen=True)
class Sources:
    """A pre-activation at one token, taken apart: bias + Σ parts."""

    parts: np.ndarray
    """[heads source]"""
    pattern: np.ndarray
    """[heads source], each head's attention from the token."""
    bias: float

    @property
    def total(self) -> float:
        """The pre-activation."""
        return float(self.parts.sum()) + self.bias


@dataclass(frozen=True)
class LensRow:
    """What the stream after one block would predict, were it the last."""

    layer: int
    tokens: np.ndarray
    """[pos k], most probable first."""
    probabilities: np.ndarray
    """[pos k]"""


class Engine(Protocol):
    """One model with the dictionaries of a harvest."""

    def read(self, text: str) -> Text:
        """Tokenise; InputError for an empty text and for one beyond the model's context."""
        ...

    def text(self, token_ids: list[int]) -> Text:
        """Tokens that are known already, a stored sequence's for one; BOS is one of them."""
        ...

    def firing(self, text: Text, names: list[str]) -> dict[str, Firing]:
        """Activations of dictionaries on a text, BOS and special tokens included."""
        ...

    def weights(self, feature: FeatureId) -> Weights:
        """Which dimensions, neurons and heads a feature reads and writes."""
        ...

    def sources(self, feature: FeatureId, tokens: np.ndarray, peak: int) -> Sources:
        """A hook_z feature's pre-activation at a position of a sequence, by head and source token.

        InputError where that is not defined.
        """
        ...

    def removal(self, feature: FeatureId, context: Context, tokens: np.ndarray) -> Removal:
        """What removing a feature changes in a stored context; `tokens` are its whole sequence."""
        ...

    def lens(self, feature: FeatureId) -> np.ndarray | None:
        """Its direct effect on the logit of every token of the vocabulary, per unit of activation;
        None where it has no direct path."""
        ...

    def cosines(
        self, features: Sequence[FeatureId], side: Literal["encoder", "decoder"]
    ) -> list[list[float | None]]:
        """Of each pair of features; None where the two live in different spaces."""
        ...

    def nearest(
        self, feature: FeatureId, dictionary: str, n: int
    ) -> list[tuple[int, float]] | None:
        """The `n` features of a dictionary whose decoders have the largest cosine with one of any;
        None where they write into different spaces."""
        ...

    def fit(self, text: str) -> str:
        """The longest beginning of a text that the model can read at once."""
        ...

    @property
    def chats(self) -> bool:
        """Whether the model's tokenizer has a chat template."""
        ...

    def read_chat(self, turns: Sequence[Mapping[str, str]]) -> Text:
        """Turns ({role, content}) through the model's chat template; InputError as in `read`."""
        ...

    def lens_rows(self, text: Text) -> list[LensRow]:
        """The logit lens after every block; the last row is the model's own prediction."""
        ...

    def predict(self, text: Text, at: int, n: int) -> list[tuple[int, float]]:
        """The most probable tokens after position `at`, with their probabilities."""
        ...

    def target(self, text: Text, at: int, answer: str) -> int:
        """The token that `answer` is behind position `at`; InputError when it is several."""
        ...

    def toward(self, text: Text, names: list[str], target: int, at: int) -> dict[str, Firing]:
        """Gradient × activation toward a next token at a position, of features active at counted
        positions: `value` is in logits, less their mean over the vocabulary."""
        ...

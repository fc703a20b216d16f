"""What pages ask of a live model, and what they get: plain data, importable without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from feature_store.records import Context, FeatureId
from feature_store.removal_effects import RemovalEffect


@dataclass(frozen=True)
class TokenizedText:
    """A text as the model reads it."""

    token_ids: list[int]
    """BOS in front, where the dictionaries were trained with one."""
    counted: list[bool]
    """False for BOS and special tokens, which no statistic counts."""


@dataclass(frozen=True)
class TextActivations:
    """Non-zero activations of one dictionary on a text, ordered by position, then feature."""

    position: np.ndarray
    feature: np.ndarray
    value: np.ndarray

    def of(self, feature: int) -> dict[int, float]:
        """One feature's activations by position."""
        mine = self.feature == feature
        return dict(zip(self.position[mine].tolist(), self.value[mine].tolist(), strict=True))


@dataclass(frozen=True)
class LargestEntries:
    """The entries of largest magnitude of a vector, largest first."""

    index: list[int]
    value: list[float]
    of: int
    """Entries there are."""


@dataclass(frozen=True)
class NearestNeurons:
    """The MLP neurons of a layer nearest to a direction, by cosine."""

    layer: int
    nearest: LargestEntries


@dataclass(frozen=True)
class FeatureWeights:
    """A feature's encoder column and decoder row in the model's own units; None: does not apply."""

    encoder: LargestEntries | None
    decoder: LargestEntries
    encoder_heads: list[float] | None
    """Each head's share of the norms of its blocks; so `decoder_heads`."""
    decoder_heads: list[float] | None
    readers: NearestNeurons | None
    """Neurons that read the encoder's direction."""
    writers: NearestNeurons | None
    """Neurons that write the decoder's direction."""


@dataclass(frozen=True)
class DirectFeatureAttribution:
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
class LogitLensRow:
    """What the stream after one block would predict, were it the last."""

    layer: int
    tokens: np.ndarray
    """[pos k], most probable first."""
    probabilities: np.ndarray
    """[pos k]"""


class Engine(Protocol):
    """One model with the dictionaries of a harvest."""

    def read(self, text: str) -> TokenizedText:
        """Tokenise; InputError for an empty text and for one beyond the model's context."""
        ...

    def text(self, token_ids: list[int]) -> TokenizedText:
        """Tokens that are known already, a stored sequence's for one; BOS is one of them."""
        ...

    def firing(self, text: TokenizedText, names: list[str]) -> dict[str, TextActivations]:
        """Activations of dictionaries on a text, BOS and special tokens included."""
        ...

    def weights(self, feature: FeatureId) -> FeatureWeights:
        """Which dimensions, neurons and heads a feature reads and writes."""
        ...

    def sources(
        self, feature: FeatureId, tokens: np.ndarray, peak: int
    ) -> DirectFeatureAttribution:
        """A hook_z feature's pre-activation at a position of a sequence, by head and source token.

        InputError where that is not defined.
        """
        ...

    def removal(self, feature: FeatureId, context: Context, tokens: np.ndarray) -> RemovalEffect:
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

    def read_chat(self, turns: Sequence[Mapping[str, str]]) -> TokenizedText:
        """Turns ({role, content}) through the model's chat template; InputError as in `read`."""
        ...

    def lens_rows(self, text: TokenizedText) -> list[LogitLensRow]:
        """The logit lens after every block; the last row is the model's own prediction."""
        ...

    def predict(self, text: TokenizedText, at: int, n: int) -> list[tuple[int, float]]:
        """The most probable tokens after position `at`, with their probabilities."""
        ...

    def target(self, text: TokenizedText, at: int, answer: str) -> int:
        """The token that `answer` is behind position `at`; InputError when it is several."""
        ...

    def toward(
        self, text: TokenizedText, names: list[str], target: int, at: int
    ) -> dict[str, TextActivations]:
        """Gradient × activation toward a next token at a position, of features active at counted
        positions: `value` is in logits, less their mean over the vocabulary."""
        ...

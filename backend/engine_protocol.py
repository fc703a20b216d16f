"""Protocol of an engine (a live model with dictionaries) and the records that its methods return.

Everything here is plain data that can be imported without torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from feature_store.records import Context, FeatureId
from feature_store.removal_effects import RemovalEffect


@dataclass(frozen=True)
class TokenizedText:
    """Text as an engine's model reads it: token ids, and which of them count (BOS and other special
    tokens do not)."""

    token_ids: list[int]
    """Token ids of the text that an engine reads, with BOS in front if the dictionaries were
    trained with it."""
    counted: list[bool]
    """Flags of the tokens of a text that an engine reads; False for BOS and special tokens, which
    no statistic counts."""


@dataclass(frozen=True)
class TextActivations:
    """Non-zero activations of one dictionary on a text, as an engine returns them: ordered by
    position, then feature."""

    position: np.ndarray
    feature: np.ndarray
    value: np.ndarray

    def by_position(self, feature: int) -> dict[int, float]:
        """Return one feature's activations on the text that the engine read, as {position:
        activation}."""
        rows = self.feature == feature
        return dict(zip(self.position[rows].tolist(), self.value[rows].tolist(), strict=True))


@dataclass(frozen=True)
class LargestEntries:
    """Entries of largest magnitude of a weight vector, largest first, as an engine returns them."""

    index: list[int]
    value: list[float]
    n_entries: int
    """Number of entries of the whole weight vector, of which an engine returns the largest."""


@dataclass(frozen=True)
class NearestNeurons:
    """MLP neurons of one layer nearest to a feature's direction by cosine, as an engine returns
    them."""

    layer: int
    nearest: LargestEntries


@dataclass(frozen=True)
class FeatureWeights:
    """Largest weights of a feature's encoder column and decoder row, in the model's own units, as
    an engine returns them.

    A field is None where it does not apply.
    """

    encoder: LargestEntries | None
    decoder: LargestEntries
    encoder_heads: list[float] | None
    """Share of each attention head in the norm of the encoder column, as an engine returns it;
    `decoder_heads` is the same for the decoder row."""
    decoder_heads: list[float] | None
    readers: NearestNeurons | None
    """MLP neurons whose input weights are nearest to the encoder's column: they read the direction
    that the engine's feature reads."""
    writers: NearestNeurons | None
    """MLP neurons whose output weights are nearest to the decoder's row: they write the direction
    that the engine's feature writes."""


@dataclass(frozen=True)
class DirectFeatureAttribution:
    """Direct feature attribution of a pre-activation at one token: bias + sum of parts by attention
    head and source token."""

    parts: np.ndarray
    """Parts of the pre-activation [heads, source token], as an engine's direct feature attribution
    returns them."""
    pattern: np.ndarray
    """Attention pattern of the attributed token [heads, source token], as an engine returns it."""
    bias: float

    @property
    def total(self) -> float:
        """Pre-activation that the direct feature attribution of an engine adds up to: the sum of
        all parts and the bias."""
        return float(self.parts.sum()) + self.bias


@dataclass(frozen=True)
class LogitLensRow:
    """One layer of an engine's logit lens: the next tokens that the stream after this block would
    predict."""

    layer: int
    tokens: np.ndarray
    """Token ids [pos, k] of one row of an engine's logit lens, most probable first."""
    probabilities: np.ndarray
    """Probabilities [pos, k] of the tokens in one row of an engine's logit lens."""


class Engine(Protocol):
    """Protocol of an engine: one model with the dictionaries of a harvest, as pages and commands
    use it."""

    def read(self, text: str) -> TokenizedText:
        """Tokenise a text (engine protocol); raise InputError for an empty text and for one longer
        than the model's context."""
        ...

    def text(self, token_ids: list[int]) -> TokenizedText:
        """Wrap token ids that are known already, such as a stored sequence with its BOS, as a text
        (engine protocol)."""
        ...

    def compute_activations(
        self, text: TokenizedText, names: list[str]
    ) -> dict[str, TextActivations]:
        """Compute the activations of dictionaries on a text (engine protocol), at BOS and special
        tokens as well."""
        ...

    def weights(self, feature: FeatureId) -> FeatureWeights:
        """Return which dimensions, neurons and heads a feature reads and writes most (engine
        protocol)."""
        ...

    def attribute_to_sources(
        self, feature: FeatureId, tokens: np.ndarray, peak: int
    ) -> DirectFeatureAttribution:
        """Attribute a hook_z feature's pre-activation at a position to heads and source tokens
        (engine protocol).

        Raise InputError where direct feature attribution is not defined.
        """
        ...

    def measure_removal(
        self, feature: FeatureId, context: Context, tokens: np.ndarray
    ) -> RemovalEffect:
        """Measure how removing a feature changes predictions in a stored context (engine protocol);
        `tokens` are its whole sequence."""
        ...

    def logit_lens(self, feature: FeatureId) -> np.ndarray | None:
        """Return a feature's direct effect on every token's logit, per unit of activation (engine
        protocol).

        Return None where the feature has no direct path to the logits.
        """
        ...

    def pairwise_cosines(
        self, features: Sequence[FeatureId], side: Literal["encoder", "decoder"]
    ) -> list[list[float | None]]:
        """Return the pairwise cosines of features' directions (engine protocol); None for a pair in
        different spaces."""
        ...

    def find_nearest(
        self, feature: FeatureId, dictionary: str, n: int
    ) -> list[tuple[int, float]] | None:
        """Return the `n` features of a dictionary whose decoders have the largest cosine with one
        feature's (engine protocol).

        Return None where the two write into different spaces.
        """
        ...

    def cut_to_context(self, text: str) -> str:
        """Return the longest beginning of a text that fits into the model's context (engine
        protocol)."""
        ...

    @property
    def chats(self) -> bool:
        """Whether the model's tokenizer has a chat template (engine protocol)."""
        ...

    def read_chat(self, turns: Sequence[Mapping[str, str]]) -> TokenizedText:
        """Tokenise chat turns ({role, content}) with the model's chat template (engine protocol);
        InputError as in `read`."""
        ...

    def lens_rows(self, text: TokenizedText) -> list[LogitLensRow]:
        """Return the logit lens after each block (engine protocol); the last row is the model's own
        prediction."""
        ...

    def predict_next_tokens(self, text: TokenizedText, at: int, n: int) -> list[tuple[int, float]]:
        """Return the `n` most probable tokens after position `at`, with their probabilities (engine
        protocol)."""
        ...

    def find_target_token(self, text: TokenizedText, at: int, answer: str) -> int:
        """Return the token id of `answer` after position `at` (engine protocol); raise InputError
        when it is several tokens."""
        ...

    def attribute_logit(
        self, text: TokenizedText, names: list[str], target: int, at: int
    ) -> dict[str, TextActivations]:
        """Attribute a next token's logit at a position to a text's features by gradient ×
        activation (engine protocol).

        Values are in logits, less the mean over the vocabulary, of features active at counted
        positions.
        """
        ...

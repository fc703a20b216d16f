"""The records that cross package borders: frozen, plain, without tensors."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from feature_store.errors import InputError

Split = Literal["explain", "score"]
Stratum = Literal["top", "bottom", "range"]


@dataclass(frozen=True, order=True)
class FeatureId:
    """One feature of one dictionary, written DICTIONARY/INDEX: `gpt2-small/8-res-jb/1042`."""

    dictionary: str
    index: int

    def __str__(self) -> str:
        return f"{self.dictionary}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Split at the last slash, since a dictionary's name may hold slashes itself."""
        dictionary, _, index = text.strip().rpartition("/")
        if not dictionary or not (index.isascii() and index.isdecimal()):
            raise InputError(
                f"{text!r} is not a feature. Write DICTIONARY/INDEX, "
                "for example gpt2-small/8-res-jb/1042."
            )
        return cls(dictionary, int(index))


@dataclass(frozen=True)
class HarvestRecord:
    """One pass of a corpus through a model and its dictionaries."""

    id: str
    schema: int
    model: str
    model_source: str
    """A hub name or a folder's name; never an absolute path."""
    model_hash: str
    corpus: str
    tokens: int
    """Counted tokens: BOS and special tokens are left out."""
    documents: int
    sequences: int
    context_size: int
    window_size: int
    windows: int
    """Windows of the fixed grid over all sequences."""
    packed: bool
    seed: int
    forward_batch: int
    """Tokens of one forward pass at most, padding included."""
    dtype: str
    device: str
    encoding: str
    """`exact`, or the name of an approximate encoding."""
    versions: str
    """JSON: the versions of what computed this."""
    revision: str
    warnings: list[str]
    started: datetime
    """UTC, like `finished`."""
    finished: datetime


@dataclass(frozen=True)
class DictionaryInfo:
    """One dictionary of a harvest, with what its self-check measured."""

    dictionary: str
    hook_name: str
    hook_out: str
    architecture: str
    signed: bool
    d_in: int
    d_out: int
    d_sae: int
    source: str
    weights_hash: str
    model_kwargs: str
    explained_variance: float | None
    l0: float | None
    ce_clean: float | None
    """Cross-entropy in nats per token, like the three that follow."""
    ce_spliced: float | None
    ce_zero: float | None
    ce_mean: float | None
    delta_ce: float | None
    recovery_zero: float | None
    recovery_mean: float | None
    check_tokens: int | None
    check_documents: int | None
    published_l0: float | None
    published_explained_variance: float | None
    check_words: list[str]
    n_dead: int
    """Features that never fired on the harvest's tokens."""
    mean_active: float
    """Active features a counted token, over the whole harvest."""
    coactive_tokens: int
    coactive_rate: float
    token_sample_tokens: int
    token_sample_rate: float


@dataclass(frozen=True)
class SignStatistics:
    """One sign of a signed feature; magnitudes, so that both sides read alike."""

    n_active: int
    density: float
    window_density: float
    max_act: float | None
    mean_act: float | None
    std_act: float | None
    skew: float | None
    kurtosis: float | None
    histogram_start: int | None
    histogram: list[int] | None


@dataclass(frozen=True)
class FeatureFacts:
    """What a harvest knows of one feature. Magnitudes |a| where the dictionary is signed."""

    dictionary: str
    feature: int
    n_active: int
    density: float
    """Share of counted tokens with |a| > 0."""
    window_density: float
    """Share of the harvest's windows with |a| > 0 somewhere."""
    max_act: float | None
    mean_act: float | None
    """Mean over the tokens where it is active."""
    mean_all: float
    """Mean of the signed activation over all counted tokens."""
    std_act: float | None
    skew: float | None
    kurtosis: float | None
    """Fourth standardised moment of the active values; 3 for a normal distribution."""
    bos_act: float | None
    mean_position: float | None
    histogram_start: int | None
    """Number of the first bin; `histogram.bin_edge` gives a bin's lower edge."""
    histogram: list[int] | None
    window_histogram_start: int | None
    window_histogram: list[int] | None
    top_token: int | None
    top_token_share: float | None
    """Share of its activation on `top_token`, over `top_token_n` sampled active tokens."""
    top_token_n: int
    promoted_tokens: list[int] | None
    promoted_values: list[float] | None
    suppressed_tokens: list[int] | None
    suppressed_values: list[float] | None
    logit_kurtosis: float | None
    decoder_norm: float | None
    encoder_decoder_cosine: float | None
    nearest: list[int] | None
    nearest_cosine: list[float] | None
    coactive: list[int] | None
    coactive_phi: list[float] | None
    coactive_count: list[int] | None
    positive: SignStatistics | None
    negative: SignStatistics | None
    first_context: int
    n_contexts: int


@dataclass(frozen=True)
class Context:
    """A window of a sequence around an activation."""

    stratum: Stratum
    rank: int
    weight: float | None
    """Windows that this sample stands for (1 / inclusion probability); none for top and bottom."""
    split: Split
    document: int
    sequence: int
    start: int
    """Position in the sequence of the window's first token; `peak` and `positions` likewise."""
    length: int
    peak: int
    value: float
    """The activation of largest magnitude, of the sign that the context was drawn for."""
    positions: list[int]
    activations: list[float]


@dataclass(frozen=True)
class FeaturePayload:
    """One feature's facts and contexts, with the text of every context's tokens."""

    facts: FeatureFacts
    contexts: list[Context]
    tokens: list[list[str]]
    """For each context, the display text of its `length` tokens."""


@dataclass(frozen=True)
class SilentWindow:
    """A random window with every non-zero activation of one dictionary in it."""

    window: int
    sequence: int
    start: int
    length: int
    split: Split
    positions: list[int]
    features: list[int]
    activations: list[float]


@dataclass(frozen=True)
class Annotation:
    """What a person said of a feature; the newest of a kind is in force, older ones are history."""

    dictionary: str
    feature: int
    kind: Literal["label", "note", "star"]
    value: str
    """The text; for a star `1` or the empty string. An empty value takes the annotation back."""
    created: datetime

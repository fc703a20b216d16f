"""Records that cross package borders: frozen dataclasses without tensors for harvests,
dictionaries, features, contexts and annotations."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from feature_store.errors import InputError
from feature_store.hook_sites import ReadSite, SitedDictionary, WriteSite

Split = Literal["explain", "score"]
Stratum = Literal["top", "bottom", "range"]


@dataclass(frozen=True, order=True)
class FeatureId:
    """Id of a feature: a dictionary's name and an index, written DICTIONARY/INDEX, such as
    `gpt2-small/8-res-jb/1042`."""

    dictionary: str
    index: int

    def __str__(self) -> str:
        return f"{self.dictionary}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the id of a feature at its last slash, since a dictionary's name may contain
        slashes."""
        dictionary, _, index = text.strip().rpartition("/")
        if not dictionary or not (index.isascii() and index.isdecimal()):
            raise InputError(
                f"{text!r} is not a feature. Write DICTIONARY/INDEX, "
                "for example gpt2-small/8-res-jb/1042."
            )
        return cls(dictionary, int(index))


@dataclass(frozen=True)
class HarvestRecord:
    """Record of a harvest: one pass of a corpus through a model and its dictionaries."""

    id: str
    schema: int
    model: str
    model_source: str
    """Hub name or folder name of the model; never an absolute path."""
    model_hash: str
    corpus: str
    tokens: int
    """Number of counted tokens, without BOS and other special tokens."""
    documents: int
    sequences: int
    context_size: int
    window_size: int
    windows: int
    """Number of windows in the fixed grid over all sequences."""
    packed: bool
    seed: int
    forward_batch: int
    """Maximum number of tokens in one forward pass, including padding."""
    dtype: str
    device: str
    encoding: str
    """`exact`, or the name of an approximate method of encoding activations."""
    versions: str
    """JSON object: versions of the software that made the harvest."""
    revision: str
    warnings: list[str]
    started: datetime
    """Start of the harvest in UTC; `finished` is its end."""
    finished: datetime


@dataclass(frozen=True)
class DictionaryInfo(SitedDictionary):
    """Record of one dictionary of a harvest, with its reconstruction measurements."""

    dictionary: str
    reads: tuple[ReadSite, ...]
    """Hook points that it reads, with the encoder rows of each."""
    writes: tuple[WriteSite, ...]
    """Hook points that it writes, with the decoder columns of each."""
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
    """Cross-entropy of the unmodified model in nats per token; `ce_spliced`, `ce_zero` and
    `ce_mean` are in the same unit."""
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
    """Number of features that never fired on the harvest's tokens."""
    mean_active: float
    """Mean number of active features per counted token, over all tokens of the harvest."""
    coactive_tokens: int
    coactive_rate: float
    token_sample_tokens: int
    token_sample_rate: float

    @property
    def site_owner(self) -> str:
        """Name of the dictionary in error messages about its hook points."""
        return self.dictionary


@dataclass(frozen=True)
class SignStatistics:
    """Record of the statistics of one sign of a signed feature, as magnitudes."""

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
    """Record of one feature's statistics in a harvest; activations are magnitudes |a| if the
    dictionary is signed."""

    dictionary: str
    feature: int
    n_active: int
    density: float
    """Share of counted tokens with |a| > 0."""
    window_density: float
    """Share of the harvest's windows in which some token has |a| > 0."""
    max_act: float | None
    mean_act: float | None
    """Mean of |a| over the tokens where the feature is active."""
    mean_all: float
    """Mean of the signed activation over all counted tokens."""
    std_act: float | None
    skew: float | None
    kurtosis: float | None
    """Fourth standardised moment of the active values; 3 for a normal distribution."""
    bos_act: float | None
    mean_position: float | None
    histogram_start: int | None
    """Number of the first bin; `activation_histogram.bin_edge` gives the lower edge of a bin."""
    histogram: list[int] | None
    window_histogram_start: int | None
    window_histogram: list[int] | None
    top_token: int | None
    top_token_share: float | None
    """Share of the feature's activation that falls on `top_token`, over `top_token_n` sampled
    active tokens."""
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
    """Record of a context: a window of a sequence around an activation of a feature."""

    stratum: Stratum
    rank: int
    weight: float | None
    """Number of windows that this sample represents (1 / inclusion probability); None for top
    and bottom contexts."""
    split: Split
    document: int
    sequence: int
    start: int
    """Position in the sequence of the window's first token; `peak` and `positions` are sequence
    positions too."""
    length: int
    peak: int
    value: float
    """The activation of largest magnitude, of the sign for which the context was sampled."""
    positions: list[int]
    activations: list[float]


@dataclass(frozen=True)
class FeaturePayload:
    """Record of a feature's facts and contexts, with the text of every context's tokens."""

    facts: FeatureFacts
    contexts: list[Context]
    tokens: list[list[str]]
    """For each context, the display texts of its `length` tokens."""


@dataclass(frozen=True)
class SilentWindow:
    """Record of a window of the pool of random windows, with every non-zero activation of one
    dictionary in it."""

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
    """Record of an annotation (label, note or star) of a feature; the newest of each kind is in
    force, older ones are history."""

    dictionary: str
    feature: int
    kind: Literal["label", "note", "star"]
    value: str
    """Text of the label or note; `1` for a star. An empty value withdraws the annotation."""
    created: datetime

"""Does this dictionary fit this model here? Measured before anything it says is shown.

A wrong hook point, a missing normalisation or another model's weights do not raise errors: they
give features that look like features. What they cannot give is a good reconstruction. The
measurement itself is in `selfcheck_run.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from backend.dictionaries.base import Dictionary
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.number_format import format_fixed as short

LOW_EXPLAINED_VARIANCE = 0.5
L0_FACTOR = 2.0
HIGH_DELTA_CE = 1.0  # nats per token
ENOUGH_DOCUMENTS = 50
"""Documents below which the figures are said to rest on few."""
UNIGRAM_SHARE = 0.9
"""Share of the unigram loss above which a model is said to make nothing of a text."""


@dataclass(frozen=True)
class ReconstructionCheck:
    """Every number over counted tokens only: no BOS, padding or special tokens."""

    n_documents: int
    n_pieces: int
    """Pieces of these documents, at most 128 tokens each."""
    n_tokens: int
    explained_variance: float | None
    """1 - squared error over variance, summed over tokens; None if the activations never vary."""
    l0: float
    """Non-zero features per token."""
    dead_share: float
    """Share of features without any activation in these n_tokens."""
    dead_bound: float
    """3/n: a feature that never fired is rarer than this, with 95 % confidence."""
    largest: float
    """Largest |activation| of a feature."""
    ce_clean: float
    """Cross-entropy of the next token, nats; also below."""
    ce_unigram: float
    """The same of each token's frequency in these pieces without it (Witten-Bell smoothing)."""
    ce_spliced: float
    """With the reconstruction in place of the activation."""
    ce_zero: float | None
    """With zero in its place; None where nothing is spliced: a layer's own neurons."""
    ce_mean: float | None
    """With the mean over all counted tokens in its place."""
    delta_ce: float
    """ce_spliced - ce_clean."""
    delta_ce_margin: float | None
    """Half the width of the 95 % interval of delta_ce; None where it is exact or has none."""
    delta_ce_pieces: int
    """Pieces on which delta_ce was measured: fewer than n_pieces where that was enough."""
    recovery_zero: float | None
    """1 - delta_ce over the damage of zero ablation; None where that does no damage."""
    recovery_mean: float | None
    published_l0: float | None
    published_explained_variance: float | None

    def plain(self) -> dict[str, Any]:
        """The fields for JSON and the store, in which what is not finite is absent."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def choose_bos_token(lm: LanguageModel, found: list[Dictionary]) -> int | None:
    """What stands at the front of each sequence, as the dictionaries were trained."""
    wants = {d.name: expects_bos(d) for d in found}
    if len(set(wants.values())) > 1:
        yes, no = (next(n for n, want in wants.items() if want is kind) for kind in (True, False))
        raise InputError(
            f"{yes} was trained with a BOS token in front of each sequence and {no} without. "
            "Harvest them separately."
        )
    return lm.bos if all(wants.values()) else None


def expects_bos(dictionary: Dictionary) -> bool:
    """Whether the dictionary was trained on sequences that begin with BOS."""
    return bool(dictionary.metadata.get("prepend_bos", True))


def check_dictionary_fits(lm: LanguageModel, dictionary: Dictionary) -> None:
    """InputError unless the model has the dictionary's hook points, in its widths."""
    _check_hook_width(lm, dictionary.name, dictionary.hook_name, "reads", dictionary.d_in)
    _check_hook_width(lm, dictionary.name, dictionary.hook_out, "writes", dictionary.d_out)
    for hook in (dictionary.hook_name, dictionary.hook_out):  # a processing may be undefined there
        nothing = torch.zeros(1, 1, lm.width(hook), device=lm.placement.device)
        lm.process(hook, nothing, dictionary.processing)


def _check_hook_width(lm: LanguageModel, name: str, hook: str, does: str, width: int) -> None:
    has = lm.width(hook)
    if has == width:
        return
    block = hook.split(".hook")[0].split(".attn")[0].split(".mlp")[0].split(".ln")[0]
    fitting = [h for h in lm.usual_hooks(block) if lm.width(h) == width]
    where = f"there that width is at {', '.join(fitting)}" if fitting else "no usual hook point has"
    tail = where if fitting else f"{where} that width, so it belongs to another model"
    raise InputError(
        f"{name} {does} vectors of {width} at {hook}, where {lm.name} has {has}; {tail}."
    )


def unigram_loss(tokens: Sequence[int] | np.ndarray, d_vocab: int) -> float:
    """Return the mean loss in nats of predicting each token from the other tokens' frequencies.

    Witten-Bell: of N other tokens of T kinds, a token seen n times has probability
    n / (N + T), and a share T / (N + T) is spread evenly over the vocabulary. Leaving the token
    itself out keeps a small sample from looking predictable.
    """
    ids, index, counts = np.unique(np.asarray(tokens), return_inverse=True, return_counts=True)
    others = counts[index] - 1
    kinds = len(ids) - (others == 0)
    n = len(index) - 1
    if n <= 0:
        return math.log(d_vocab)
    return float(-np.log((others + kinds / d_vocab) / (n + kinds)).mean())


def describe_check_problems(check: ReconstructionCheck) -> list[str]:
    """A sentence for each number that says something is wrong; empty when all is well.

    Comparisons ask for what is right, so that a NaN, which compares as false, is reported.
    """
    found = [*describe_text_problems(check), *describe_reconstruction_problems(check)]
    numbers = asdict(check)
    broken = [name for name, v in numbers.items() if isinstance(v, float) and not math.isfinite(v)]
    if broken:
        found.insert(
            0,
            f"Not a finite number on this text: {', '.join(broken)}. The model or the dictionary "
            "overflows: load both in float32, and look at the weights.",
        )
    return found


def describe_text_problems(check: ReconstructionCheck) -> list[str]:
    """What is wrong with the text that it was measured on."""
    found = []
    if not check.ce_clean < UNIGRAM_SHARE * check.ce_unigram:
        found.append(
            f"These texts mean nothing to this model: it predicts them at {short(check.ce_clean)} "
            f"nats per token, where the tokens' frequencies alone give {short(check.ce_unigram)}. "
            "Look at the language and format of the texts, and whether model and tokenizer belong "
            "together."
        )
    if not check.n_documents >= ENOUGH_DOCUMENTS:
        documents = "document" if check.n_documents == 1 else "documents"
        found.append(
            f"Measured on {check.n_pieces} pieces of only {check.n_documents} {documents} "
            f"({ENOUGH_DOCUMENTS} are wanted): the figures hold for such texts, and may not for "
            f"others."
        )
    return found


def describe_reconstruction_problems(check: ReconstructionCheck) -> list[str]:
    """What is wrong with the reconstruction."""
    found = []
    ev, published = check.explained_variance, check.published_l0
    if ev is None:
        found.append(
            "The activations at its hook point never vary: look at the hook point and the text."
        )
    elif not ev >= LOW_EXPLAINED_VARIANCE:
        found.append(
            f"It explains {short(ev)} of the variance (expected above {LOW_EXPLAINED_VARIANCE}): "
            "look at the hook point first, then at its input normalisation, then whether it was "
            "trained on this model."
        )
    if published and not 1 / L0_FACTOR <= check.l0 / published <= L0_FACTOR:
        found.append(
            f"{short(check.l0, 1)} features fire per token where {short(published, 1)} were "
            "published: look at its input normalisation, whether sequences begin with BOS as in "
            "its training, and the model."
        )
    if not check.delta_ce <= HIGH_DELTA_CE:
        found.append(
            f"Its reconstruction costs the model {short(check.delta_ce)} nats per token (from "
            f"{short(check.ce_clean)} to {short(check.ce_spliced)}): look at the hook point, the "
            "normalisation and the model before trusting a feature."
        )
    if check.recovery_mean is not None and not check.recovery_mean >= 0:
        found.append(
            "Its reconstruction harms the model more than the mean activation in its place does "
            f"(loss recovered {short(check.recovery_mean)} against mean ablation): at this hook "
            "point it makes no sense for this model."
        )
    return found

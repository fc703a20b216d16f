"""Replacement model of one prompt: the frozen model with dictionaries in place of module outputs,
which splits a number into contributions of its sources.

The outputs of modules are cut and become sources: the features of the dictionaries that write
there, their error terms, the whole output of MLPs without a dictionary, and the token embeddings.
Between the cuts the model is affine (`frozen_model.py`), so that any number read from it is exactly
a bias plus a sum over sources; one backward pass gives all its terms (Ameisen et al. 2025;
algorithms as in circuit-tracer).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.attribution.dictionary_activations import (
    DictionaryActivations,
    read_dictionary_activations,
)
from backend.circuits.frozen_model import check_affine, freeze_model
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary
from backend.model.fast_forward import ActivationEdit
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError

MOST_ROWS = 32
"""Maximum number of readouts in one backward pass of the replacement model."""
ACTIVATIONS_PER_PASS = 1 << 25
"""Approximate maximum number of activations in the autograd graph of the replacement model: 128 MB
in float32."""
EMBEDDING_HOOK = "blocks.0.hook_resid_pre"


@dataclass(frozen=True, eq=False)
class CutSite:
    """Cut of the replacement model: a hook point whose activation is a sum of sources (features,
    error terms, outputs of MLPs without a dictionary, or token embeddings)."""

    name: str
    """Name of the dictionary at the cut, or of the hook point if there is no dictionary."""
    hook: str
    layer: int
    """Layer of the cut; −1 for the token embeddings."""
    h: Float[Tensor, "1 pos width"]
    """Activation of the model at the cut."""
    activations: DictionaryActivations | None = None
    """Activations of the dictionary that writes at the cut; None if the activation at each position
    is one source."""
    remainder: Float[Tensor, "1 pos width"] | None = None
    """Part of the activation at the cut that no feature carries, one source per position: the error
    term, or the whole activation if there is no dictionary. None for the token embeddings, whose
    whole activation is the source."""

    @property
    def is_tokens(self) -> bool:
        return self.remainder is None

    @property
    def n_features(self) -> int:
        return 0 if self.activations is None else len(self.activations.active.value)

    def feature_contributions(
        self, g: Float[Tensor, "batch pos width"]
    ) -> Float[Tensor, "batch n"]:
        """Return the contribution of each feature at this cut of the replacement model to readouts
        whose gradients here are `g`."""
        assert self.activations is not None
        active, W_dec = self.activations.active, self.activations.dictionary.coder.W_dec
        pulled = self.activations.decoder_sum_gradient(g)
        found = pulled.new_zeros(len(g), len(active.value))
        counts = torch.bincount(active.position, minlength=g.shape[1]).tolist()
        begin = 0
        for position, n in enumerate(counts):
            if n:
                mine = slice(begin, begin + n)
                rows = W_dec[active.feature[mine]] * active.value[mine, None]
                found[:, mine] = pulled[:, position] @ rows.T
                begin += n
        return found

    def remainder_contributions(
        self, g: Float[Tensor, "batch pos width"]
    ) -> Float[Tensor, "batch pos"]:
        """Return the contribution of each error term, unread output or token embedding at this cut
        of the replacement model to readouts with gradients `g`."""
        return (g * (self.h if self.remainder is None else self.remainder)).sum(-1)


@dataclass(frozen=True)
class LinearReadout:
    """Number read from the replacement model at one place: a direction at a hook point and a
    position, plus an offset."""

    hook: str
    """Canonical name of the hook point at which the number is read."""
    position: int
    direction: Float[Tensor, "width"]
    offset: float = 0.0


class ReplacementModel:
    """Replacement model of one prompt: the frozen model, cut at every dictionary, so that each
    number read from it is a bias plus a sum over sources. Its forward pass is kept; each batch of
    readouts costs one backward pass."""

    def __init__(
        self,
        lm: LanguageModel,
        tokens: Int[Tensor, "1 pos"],
        counted: Bool[Tensor, "1 pos"],
        dictionaries: Sequence[Dictionary],
        *,
        extra_reads: Sequence[str] = (),
        rows: int | None = None,
    ) -> None:
        """Run the replacement model; `extra_reads` are further hook points where numbers are read.
        Raises InputError if two dictionaries write to one hook point, or if the model cannot be
        frozen."""
        self.lm = lm
        self.frozen_model = freeze_model(lm, tokens)
        self.tokens = self.frozen_model.tokens.to(lm.placement.device)
        self.counted = counted.to(lm.placement.device)
        self.sites = build_cut_sites(lm, self.tokens, self.counted, dictionaries)
        reads = [lm.canonical(one.hook_name) for one in dictionaries]
        extra = [lm.canonical(hook) for hook in extra_reads]
        self._reads = list(dict.fromkeys([*reads, *extra]))
        self.rows = rows or _rows_per_pass(lm, self.tokens.shape[1])
        self._live: dict[str, Tensor] = {}
        self._leaves = self._forward(self.rows)
        self._check_affine()

    def cut_gradients(
        self, readouts: Sequence[LinearReadout]
    ) -> list[Float[Tensor, "n pos width"]]:
        """Return for each cut of the replacement model the gradients of at most `rows` readouts
        with respect to the activation written there."""
        assert 0 < len(readouts) <= self.rows
        total = self._leaves[0].new_zeros(())
        for row, one in enumerate(readouts):
            at = self._live[one.hook][row, one.position]
            total = total + at @ one.direction.to(at.dtype)
        found = torch.autograd.grad(total, self._leaves, retain_graph=True, allow_unused=True)
        return [
            torch.zeros_like(leaf[: len(readouts)]) if g is None else g[: len(readouts)]
            for g, leaf in zip(found, self._leaves, strict=True)
        ]

    def source_contributions(self, readouts: Sequence[LinearReadout]) -> Float[Tensor, "n sources"]:
        """Return the contribution of every source of the replacement model to each readout,
        [readout, source]: features, then error terms, then tokens."""
        pulled = self.cut_gradients(readouts)
        pairs = list(zip(self.sites, pulled, strict=True))
        features = [
            site.feature_contributions(g) for site, g in pairs if site.activations is not None
        ]
        errors = [site.remainder_contributions(g) for site, g in pairs if not site.is_tokens]
        tokens = [site.remainder_contributions(g) for site, g in pairs if site.is_tokens]
        return torch.cat([*features, *errors, *tokens], 1)

    @torch.no_grad()
    def values(self, readouts: Sequence[LinearReadout]) -> Float[Tensor, "n"]:
        """Return the values of readouts from the replacement model, such as a feature's
        pre-activation or a logit."""
        read = [self._live[one.hook][0, one.position].detach() for one in readouts]
        found = [
            h @ one.direction.to(h.dtype) + one.offset
            for h, one in zip(read, readouts, strict=True)
        ]
        return torch.stack(found)

    def _forward(self, rows: int, output_changes: dict[int, Tensor] | None = None) -> list[Tensor]:
        """Run the replacement model, frozen and cut; `output_changes` are added at the cuts with
        the given indices."""
        leaves: list[Tensor] = []
        cuts: dict[str, ActivationEdit] = {}
        skips = {
            self.lm.canonical(site.activations.dictionary.hook_name)
            for site in self.sites
            if site.activations is not None and site.activations.dictionary.W_skip is not None
        }
        for i, site in enumerate(self.sites):
            leaf = site.h.new_zeros(rows, *site.h.shape[1:]).requires_grad_(True)
            leaves.append(leaf)
            added = (
                leaf
                if output_changes is None or i not in output_changes
                else leaf + output_changes[i]
            )
            cuts[_writing_hook(self.lm, site.hook)] = self._build_cut_edit(site, added)
        wanted = list(dict.fromkeys([*self._reads, *skips]))
        edits = self.frozen_model.build_edits(self._live, wanted, cuts)
        with torch.enable_grad():
            self.logits = self.lm.logits(self.tokens.expand(rows, -1), edits).detach()[:1]
        return leaves

    def _build_cut_edit(self, site: CutSite, leaf: Tensor) -> ActivationEdit:
        """Return the edit that replaces the activation at a cut by its recorded value plus the
        leaf, and keeps a transcoder's skip connection."""
        reading = site.activations
        d = None if reading is None else reading.dictionary
        if reading is None or d is None or d.W_skip is None:
            return lambda _: site.h + leaf
        W_skip, hook, clean = d.W_skip, self.lm.canonical(d.hook_name), reading.x

        def skipping(_: Tensor) -> Tensor:
            # A skip connection is linear, so it stays connected through the cut at counted tokens.
            x = self.lm.process(hook, self._live[hook], d.processing)
            moved = (x.to(clean.dtype) - clean) * self.counted[..., None]
            return site.h + leaf + (moved @ W_skip.T).to(leaf.dtype)

        return skipping

    def _check_affine(self) -> None:
        """Check that the replacement model is affine: raise InputError unless readouts follow their
        gradients when the sources are changed."""
        generator = torch.Generator().manual_seed(0)
        shapes = [site.h[:1] for site in self.sites]
        output_changes = {
            i: (torch.randn(h.shape, generator=generator, dtype=torch.float32).to(h) * h.std())
            for i, h in enumerate(shapes)
        }
        readouts = []
        for hook in self._reads[-self.rows :]:
            width = self._live[hook].shape[-1]
            direction = torch.randn(width, generator=generator).to(self._live[hook])
            readouts.append(LinearReadout(hook, self.tokens.shape[1] - 1, direction))
        if not readouts:
            return
        pulled = self.cut_gradients(readouts)
        slope = torch.stack(
            [(g * output_changes[i]).sum((-1, -2)) for i, g in enumerate(pulled)]
        ).sum(0)
        kept, logits = dict(self._live), self.logits

        def gave(factor: float) -> Tensor:
            with torch.no_grad():
                self._forward(1, {i: factor * one for i, one in output_changes.items()})
            return self.values(readouts)

        check_affine(self.lm, gave, slope)
        self._live.clear()
        self._live.update(kept)
        self.logits = logits


def _writing_hook(lm: LanguageModel, hook: str) -> str:
    return hook if hook.endswith(".hook_resid_mid") else lm.canonical(hook)


def _rows_per_pass(lm: LanguageModel, pos: int) -> int:
    per_row = pos * (lm.d_model * lm.n_layers * 12 + lm.d_vocab)
    return max(1, min(MOST_ROWS, ACTIVATIONS_PER_PASS // per_row))


def build_cut_sites(
    lm: LanguageModel,
    tokens: Int[Tensor, "1 pos"],
    counted: Bool[Tensor, "1 pos"],
    dictionaries: Sequence[Dictionary],
) -> list[CutSite]:
    """Build the cuts of the replacement model: the token embeddings, every dictionary, and every
    MLP that no dictionary represents."""
    taken: dict[str, str] = {}
    for one in dictionaries:
        at = _writing_hook(lm, one.hook_out)
        if at in taken:
            raise InputError(
                f"{taken[at]} and {one.name} both write to {one.hook_out}: choose one of them."
            )
        taken[at] = one.name
    bare = [hook for layer in range(lm.n_layers) if (hook := _find_unread_mlp(lm, layer, taken))]
    raw = lm.activations(tokens, [EMBEDDING_HOOK, *bare])
    found = [CutSite(EMBEDDING_HOOK, EMBEDDING_HOOK, -1, raw[EMBEDDING_HOOK].clone())]
    for reading in read_dictionary_activations(lm, list(dictionaries), tokens, counted):
        d = reading.dictionary
        rest = torch.where(reading.counted[..., None], reading.error_term(), reading.h)
        found.append(
            CutSite(d.name, d.hook_out, layer_of_hook(d.hook_out), reading.h, reading, rest)
        )
    for hook in bare:
        h = raw[hook].clone()
        found.append(CutSite(hook, hook, layer_of_hook(hook), h, None, h))
    return sorted(found, key=lambda site: site.layer)


def _find_unread_mlp(lm: LanguageModel, layer: int, taken: dict[str, str]) -> str | None:
    """Return the output hook point of a layer's MLP that the replacement model cuts, or None if a
    dictionary writes there or inside the MLP."""
    hook = f"blocks.{layer}.hook_mlp_out"
    inside = (f"blocks.{layer}.mlp.", f"blocks.{layer}.ln2_post.")
    stood_for = any(name.startswith(inside) or name == lm.canonical(hook) for name in taken)
    return None if stood_for else hook


def layer_of_hook(hook: str) -> int:
    """Return the layer of a hook point that the replacement model cuts; raises InputError outside
    the blocks."""
    found = re.match(r"blocks\.(\d+)\.", hook)
    if found is None:
        raise InputError(f"{hook} is not in a layer, so it cannot be part of a graph.")
    return int(found[1])


def fold_encoder_rows(
    lm: LanguageModel, d: Dictionary, features: Int[Tensor, "n"]
) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n"]]:
    """Return (G, b) with pre-activation = G · raw activation + b for some features: the readouts of
    a replacement model, with processing and scales folded into the encoder rows.

    Raises InputError if the pre-activation is not a linear map of the activation.
    """
    coder = d.coder
    z_of = d.norm.into
    if not isinstance(coder, AffineCoder) or _scales_each_token(d):
        raise InputError(
            f"The inputs of {d.name}'s features cannot be separated: its encoder "
            f"({d.architecture}) is not a linear map of the activation."
        )
    with torch.enable_grad():
        at = torch.zeros(len(features), d.d_in, device=coder.W_enc.device, dtype=coder.W_enc.dtype)
        at.requires_grad_(True)
        z = coder.centre(z_of(lm.process(d.hook_name, at, d.processing))[0])
        value = (z * coder.W_enc[:, features].T).sum(-1) + coder.b_enc[features]
        (rows,) = torch.autograd.grad(value.sum(), at)
    return rows, value.detach()


def _scales_each_token(d: Dictionary) -> bool:
    """Return whether the dictionary's input is scaled by its own norm at each token.
    (`per_token_norm` is about the output, which a transcoder does not rescale.)"""
    probe = torch.ones(1, d.d_in, device=d.coder.W_dec.device, dtype=d.coder.W_dec.dtype)
    probe[0, 0] = 2.0
    once, twice, nothing = (d.norm.into(probe * k)[0] for k in (1.0, 2.0, 1e-6))
    return not torch.allclose(twice - nothing, 2 * (once - nothing), rtol=1e-3, atol=1e-5)

"""The model with dictionaries in it, held still: which sources a number is made of, and how much.

The outputs of modules are cut and become sources: features of the dictionaries that write there,
what these miss (errors), MLPs without a dictionary whole, and the tokens' embeddings. Between the
cuts the model is affine (`frozen`), so that a number read anywhere is a bias and a sum over
sources, exactly; one backward pass tells all its terms (Ameisen et al. 2025; algorithms as in
circuit-tracer).
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
"""Numbers traced in one backward pass, at most."""
ACTIVATIONS_PER_PASS = 1 << 25
"""Activations that the graph of one pass may hold, roughly: 128 MB in float32."""
EMBEDDING_HOOK = "blocks.0.hook_resid_pre"


@dataclass(frozen=True, eq=False)
class CutSite:
    """One cut: a hook point whose activation is made of sources."""

    name: str
    """The dictionary's, or the hook point's where there is none."""
    hook: str
    layer: int
    """-1 for the tokens."""
    h: Float[Tensor, "1 pos width"]
    """What the model has there."""
    reading: DictionaryActivations | None = None
    """The dictionary's features; None where the whole activation is one source per position."""
    rest: Float[Tensor, "1 pos width"] | None = None
    """What no feature carries, a source per position: the error term; the whole activation where
    no dictionary reads. None for the tokens, whose whole activation is the source."""

    @property
    def is_tokens(self) -> bool:
        return self.rest is None

    @property
    def n_features(self) -> int:
        return 0 if self.reading is None else len(self.reading.active.value)

    def feature_parts(self, g: Float[Tensor, "batch pos width"]) -> Float[Tensor, "batch n"]:
        """What each feature contributes to numbers whose derivatives here are `g`."""
        assert self.reading is not None
        active, W_dec = self.reading.active, self.reading.dictionary.coder.W_dec
        pulled = self.reading.pulled(g)
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

    def whole_parts(self, g: Float[Tensor, "batch pos width"]) -> Float[Tensor, "batch pos"]:
        """The same for the error terms, unread outputs or tokens."""
        return (g * (self.h if self.rest is None else self.rest)).sum(-1)


@dataclass(frozen=True)
class LinearReadout:
    """A number read at one place: a direction at a hook point and a position, and an offset."""

    hook: str
    """Canonical."""
    position: int
    direction: Float[Tensor, "width"]
    offset: float = 0.0


class ReplacementModel:
    """One prompt's replacement model. The forward pass is kept, so that each pull is a backward."""

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
        """`extra_reads`: further hook points where numbers are read. InputError where two
        dictionaries write at one place, or the model cannot be held still."""
        self.lm = lm
        self.still = freeze_model(lm, tokens)
        self.tokens = self.still.tokens.to(lm.placement.device)
        self.counted = counted.to(lm.placement.device)
        self.sites = build_cut_sites(lm, self.tokens, self.counted, dictionaries)
        reads = [lm.canonical(one.hook_name) for one in dictionaries]
        extra = [lm.canonical(hook) for hook in extra_reads]
        self._reads = list(dict.fromkeys([*reads, *extra]))
        self.rows = rows or _rows_per_pass(lm, self.tokens.shape[1])
        self._live: dict[str, Tensor] = {}
        self._leaves = self._forward(self.rows)
        self._check()

    def pull(self, numbers: Sequence[LinearReadout]) -> list[Float[Tensor, "n pos width"]]:
        """For each site, the derivatives of at most `rows` numbers by what is written there."""
        assert 0 < len(numbers) <= self.rows
        total = self._leaves[0].new_zeros(())
        for row, one in enumerate(numbers):
            at = self._live[one.hook][row, one.position]
            total = total + at @ one.direction.to(at.dtype)
        found = torch.autograd.grad(total, self._leaves, retain_graph=True, allow_unused=True)
        return [
            torch.zeros_like(leaf[: len(numbers)]) if g is None else g[: len(numbers)]
            for g, leaf in zip(found, self._leaves, strict=True)
        ]

    def parts(self, numbers: Sequence[LinearReadout]) -> Float[Tensor, "n sources"]:
        """Every source's contribution to each number, in the order of `Layout`."""
        pulled = self.pull(numbers)
        pairs = list(zip(self.sites, pulled, strict=True))
        features = [site.feature_parts(g) for site, g in pairs if site.reading is not None]
        errors = [site.whole_parts(g) for site, g in pairs if not site.is_tokens]
        tokens = [site.whole_parts(g) for site, g in pairs if site.is_tokens]
        return torch.cat([*features, *errors, *tokens], 1)

    @torch.no_grad()
    def values(self, numbers: Sequence[LinearReadout]) -> Float[Tensor, "n"]:
        """The numbers themselves: a feature's pre-activation, a logit."""
        read = [self._live[one.hook][0, one.position].detach() for one in numbers]
        found = [
            h @ one.direction.to(h.dtype) + one.offset for h, one in zip(read, numbers, strict=True)
        ]
        return torch.stack(found)

    def _forward(self, rows: int, push: dict[int, Tensor] | None = None) -> list[Tensor]:
        """Run the model, held still and cut; `push` is added at sites, by number."""
        leaves: list[Tensor] = []
        cuts: dict[str, ActivationEdit] = {}
        skips = {
            self.lm.canonical(site.reading.dictionary.hook_name)
            for site in self.sites
            if site.reading is not None and site.reading.dictionary.W_skip is not None
        }
        for i, site in enumerate(self.sites):
            leaf = site.h.new_zeros(rows, *site.h.shape[1:]).requires_grad_(True)
            leaves.append(leaf)
            added = leaf if push is None or i not in push else leaf + push[i]
            cuts[_writing_hook(self.lm, site.hook)] = self._cut(site, added)
        wanted = list(dict.fromkeys([*self._reads, *skips]))
        edits = self.still.edits(self._live, wanted, cuts)
        with torch.enable_grad():
            self.logits = self.lm.logits(self.tokens.expand(rows, -1), edits).detach()[:1]
        return leaves

    def _cut(self, site: CutSite, leaf: Tensor) -> ActivationEdit:
        reading = site.reading
        d = None if reading is None else reading.dictionary
        if reading is None or d is None or d.W_skip is None:
            return lambda _: site.h + leaf
        W_skip, hook, clean = d.W_skip, self.lm.canonical(d.hook_name), reading.x

        def skipping(_: Tensor) -> Tensor:
            # A skip connection is linear: it stays a road through the cut, where tokens count.
            x = self.lm.process(hook, self._live[hook], d.processing)
            moved = (x.to(clean.dtype) - clean) * self.counted[..., None]
            return site.h + leaf + (moved @ W_skip.T).to(leaf.dtype)

        return skipping

    def _check(self) -> None:
        """InputError unless values follow the derivatives when the sources are pushed."""
        generator = torch.Generator().manual_seed(0)
        shapes = [site.h[:1] for site in self.sites]
        push = {
            i: (torch.randn(h.shape, generator=generator, dtype=torch.float32).to(h) * h.std())
            for i, h in enumerate(shapes)
        }
        numbers = []
        for hook in self._reads[-self.rows :]:
            width = self._live[hook].shape[-1]
            direction = torch.randn(width, generator=generator).to(self._live[hook])
            numbers.append(LinearReadout(hook, self.tokens.shape[1] - 1, direction))
        if not numbers:
            return
        pulled = self.pull(numbers)
        slope = torch.stack([(g * push[i]).sum((-1, -2)) for i, g in enumerate(pulled)]).sum(0)
        kept, logits = dict(self._live), self.logits

        def gave(factor: float) -> Tensor:
            with torch.no_grad():
                self._forward(1, {i: factor * one for i, one in push.items()})
            return self.values(numbers)

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
    """The tokens, every dictionary, and every MLP that none of them stands for."""
    taken: dict[str, str] = {}
    for one in dictionaries:
        at = _writing_hook(lm, one.hook_out)
        if at in taken:
            raise InputError(
                f"{taken[at]} and {one.name} both write at {one.hook_out}: choose one of them."
            )
        taken[at] = one.name
    bare = [hook for layer in range(lm.n_layers) if (hook := _find_unread_mlp(lm, layer, taken))]
    raw = lm.activations(tokens, [EMBEDDING_HOOK, *bare])
    found = [CutSite(EMBEDDING_HOOK, EMBEDDING_HOOK, -1, raw[EMBEDDING_HOOK].clone())]
    for reading in read_dictionary_activations(lm, list(dictionaries), tokens, counted):
        d = reading.dictionary
        rest = torch.where(reading.counted[..., None], reading.error(), reading.h)
        found.append(
            CutSite(d.name, d.hook_out, layer_of_hook(d.hook_out), reading.h, reading, rest)
        )
    for hook in bare:
        h = raw[hook].clone()
        found.append(CutSite(hook, hook, layer_of_hook(hook), h, None, h))
    return sorted(found, key=lambda site: site.layer)


def _find_unread_mlp(lm: LanguageModel, layer: int, taken: dict[str, str]) -> str | None:
    """The output of a layer's MLP, unless a dictionary writes inside of it or there."""
    hook = f"blocks.{layer}.hook_mlp_out"
    inside = (f"blocks.{layer}.mlp.", f"blocks.{layer}.ln2_post.")
    stood_for = any(name.startswith(inside) or name == lm.canonical(hook) for name in taken)
    return None if stood_for else hook


def layer_of_hook(hook: str) -> int:
    """The block of a hook point; InputError outside blocks."""
    found = re.match(r"blocks\.(\d+)\.", hook)
    if found is None:
        raise InputError(f"{hook} lies in no layer, so it has no place in a graph.")
    return int(found[1])


def fold_encoder_rows(
    lm: LanguageModel, d: Dictionary, features: Int[Tensor, "n"]
) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n"]]:
    """(G, b) with pre-activation = G · raw activation + b, processing and scales folded in.

    InputError where the pre-activation is no such map.
    """
    coder = d.coder
    z_of = d.norm.into
    if not isinstance(coder, AffineCoder) or _scales_each_token(d):
        raise InputError(
            f"What makes a feature of {d.name} active cannot be split: its encoder "
            f"({d.architecture}) is not one linear map of the activation."
        )
    with torch.enable_grad():
        at = torch.zeros(len(features), d.d_in, device=coder.W_enc.device, dtype=coder.W_enc.dtype)
        at.requires_grad_(True)
        z = coder.centre(z_of(lm.process(d.hook_name, at, d.processing))[0])
        value = (z * coder.W_enc[:, features].T).sum(-1) + coder.b_enc[features]
        (rows,) = torch.autograd.grad(value.sum(), at)
    return rows, value.detach()


def _scales_each_token(d: Dictionary) -> bool:
    """Whether what goes in is scaled by its own length. (`per_token_norm` speaks of what comes
    out, which a transcoder leaves alone.)"""
    probe = torch.ones(1, d.d_in, device=d.coder.W_dec.device, dtype=d.coder.W_dec.dtype)
    probe[0, 0] = 2.0
    once, twice, nothing = (d.norm.into(probe * k)[0] for k in (1.0, 2.0, 1e-6))
    return not torch.allclose(twice - nothing, 2 * (once - nothing), rtol=1e-3, atol=1e-5)

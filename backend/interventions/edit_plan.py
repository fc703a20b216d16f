"""The plan of an edited batch: the edits of all rows, checked and compiled for one model.

A row is one text: the default row has no edits, a steered one some. The rows that are shown are
followed by clean twins, one for each edited row that must be compared: the clean model reading the
same tokens.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backend.dictionaries.base import Dictionary
from backend.interventions import edit_checks, forward_path
from backend.interventions.edit_operations import EditOperation, compile_operations
from backend.interventions.records import Edit, FrozenLayers
from backend.model.counted_positions import uncounted_token_ids
from backend.model.language_model import LanguageModel
from backend.model.weight_processing import WeightProcessing
from feature_store.errors import InputError
from feature_store.records import FeatureId

MID = re.compile(r"(blocks\.\d+)\.hook_resid_mid")
ENTERS = re.compile(r"blocks\.(\d+)\.hook_in")


@dataclass(frozen=True, eq=False)
class EditPlan:
    """Plan of a batch of texts (rows) to run under edits: each row's edits compiled to operations,
    their hook points, watched features, and frozen layers; immutable, so threads can share it."""

    lm: LanguageModel
    dictionaries: Mapping[str, Dictionary]
    """Dictionaries that the edits and watched features name, held in memory until the run ends."""
    rows: tuple[tuple[Edit, ...], ...]
    operations: tuple[EditOperation, ...]
    watched: tuple[FeatureId, ...]
    """Features whose activations are read in every row."""
    freeze: FrozenLayers
    twins: Mapping[int, int]
    """Row of the clean twin for each edited row; empty where none is needed."""
    processing: WeightProcessing
    path: forward_path.ForwardPath

    @property
    def n_rows(self) -> int:
        """Number of rows of the edited batch, clean twins (the same texts without edits)
        included."""
        return len(self.rows) + len(self.twins)

    @property
    def read_ahead(self) -> list[str]:
        """Canonical hook points that must be read in a clean forward pass before the edited one."""
        hooks = [hook for one in self.operations if one.reads_ahead for hook in one.reads]
        return list(dict.fromkeys(canonical_point(self.lm, hook) for hook in hooks))

    @property
    def decodes(self) -> bool:
        """Whether the condition of any edit in the plan has a pattern, so that tokens must be
        decoded to text."""
        return any(edit.where.pattern is not None for edits in self.rows for edit in edits)

    def uncounted(self, operation: EditOperation) -> frozenset[int]:
        """Return the ids of special tokens, BOS among them, at which a compiled edit does not act
        by default."""
        metadata = {} if operation.named is None else operation.named.dictionary.metadata
        return uncounted_token_ids(self.lm.bos, self.lm.special_ids, metadata)


def compile_edits(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    rows: Sequence[Sequence[Edit]],
    *,
    watch: Sequence[FeatureId] = (),
    freeze: FrozenLayers | None = None,
    guard: bool = False,
) -> EditPlan:
    """Check the edits of all rows of a batch and compile them into a plan. `guard` gives every
    edited row a clean twin, the same text without edits.

    InputError for impossible edits: see `edit_checks`.
    """
    freeze = freeze or FrozenLayers()
    for edits in rows:
        edit_checks.check_row_edits(lm, dictionaries, edits)
    for feature in watch:
        edit_checks.check_feature(lm, dictionaries, feature)
    if len(watch) > edit_checks.MOST_FEATURES:
        raise InputError(
            f"{len(watch)} features to watch are too many: at most {edit_checks.MOST_FEATURES}."
        )
    edit_checks.check_freeze(lm, freeze)
    made = compile_operations(lm, dictionaries, rows)
    edited = [row for row, edits in enumerate(rows) if edits]
    needs = guard or freeze != FrozenLayers() or any(one.clean for one in made)
    twins = {row: len(rows) + i for i, row in enumerate(edited)} if needs else {}
    read = {hook for one in made for hook in (*one.reads, *one.gate_reads)}
    read |= {hook for feature in watch for hook in dictionaries[feature.dictionary].read_hooks}
    written = {one.writes for one in made}
    points = {canonical_point(lm, hook) for hook in written}
    points |= {away for hook in written if (away := stream_exit_point(hook))}
    points |= set(frozen_row_points(lm, freeze)) | set(frozen_norm_points(lm, freeze).values())
    read_points = {canonical_point(lm, hook) for hook in read} | set(frozen_norm_points(lm, freeze))
    return EditPlan(
        lm=lm,
        dictionaries={name: dictionaries[name] for name in sorted(_dictionary_names(rows, watch))},
        rows=tuple(tuple(edits) for edits in rows),
        operations=tuple(made),
        watched=tuple(watch),
        freeze=freeze,
        twins=twins,
        processing=edit_checks.agreed_processing(dictionaries, _dictionary_names(rows, watch)),
        path=forward_path.choose_forward_path(lm, read_points, points),
    )


def canonical_point(lm: LanguageModel, hook: str) -> str:
    """Return the canonical hook point at which an edit plan reads or edits `hook`. The stream that
    enters a block counts as the stream that left the block before.

    Otherwise edits before and after that border would not see the same stream.
    """
    name = lm.canonical(hook)
    entered = ENTERS.fullmatch(name)
    if entered and int(entered[1]) > 0:
        return f"blocks.{int(entered[1]) - 1}.hook_out"
    return name


def stream_exit_point(hook: str) -> str | None:
    """Return the hook point where the change that an edit makes at `hook_resid_mid` must be added
    again; None for other hook points.

    TransformerLens' point of that name is only the input of the MLP branch, and the residual stream
    itself bypasses it.
    """
    middle = MID.fullmatch(hook)
    return f"{middle[1]}.hook_out" if middle else None


def frozen_row_points(lm: LanguageModel, freeze: FrozenLayers) -> list[str]:
    """Return the hook points where an edited row takes the values of its clean twin (the same text
    without edits), for frozen attention patterns and MLPs.

    With equal queries and keys, attention patterns are equal.
    """
    names = []
    for layer in _layer_range(freeze.patterns):
        names += [f"blocks.{layer}.attn.hook_q", f"blocks.{layer}.attn.hook_k"]
    names += [f"blocks.{layer}.hook_mlp_out" for layer in _layer_range(freeze.mlps)]
    return [canonical_point(lm, name) for name in names]


def frozen_norm_points(lm: LanguageModel, freeze: FrozenLayers) -> dict[str, str]:
    """Return the norms whose scale in an edited row is kept as in its clean twin (the same text
    without edits), as {input hook point: output hook point}."""
    layers = list(_layer_range(freeze.norms))
    if not layers:
        return {}
    paths = [f"blocks.{layer}.{norm}" for layer in layers for norm in BLOCK_NORMS]
    paths += ["ln_final"] if lm.n_layers - 1 in layers else []
    there = set(lm.hook_names())
    return {f"{p}.hook_in": f"{p}.hook_out" for p in paths if f"{p}.hook_out" in there}


BLOCK_NORMS = ("ln1", "ln1_post", "ln2", "ln2_post")
"""Names of the norms in a transformer block."""


def _layer_range(chosen: tuple[int, int] | None) -> range:
    """Return the layers to freeze, given as (first, last), as a range; empty for None."""
    return range(0) if chosen is None else range(chosen[0], chosen[1] + 1)


def _dictionary_names(rows: Sequence[Sequence[Edit]], watch: Sequence[FeatureId]) -> set[str]:
    """Return the names of all dictionaries that the edits and watched features use."""
    edits = [edit for edits in rows for edit in edits]
    features = [*watch, *(f for edit in edits for f in edit.features)]
    features += [edit.where.gate for edit in edits if edit.where.gate is not None]
    return {feature.dictionary for feature in features}

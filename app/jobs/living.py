"""What a job needs of the model whose features it is about: functions over the engine.

Each runs in a thread and takes its turns on the model, so that calls to servers go on meanwhile.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from autointerp.pipeline.explain_job import FeatureAttentionSources
from autointerp.scorers.scorer_interface import (
    MeasureActivations,
    MeasureSurprisal,
    SteeredPair,
    SteerPrompts,
)
from autointerp.text_windows import TextWindow
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.store import Store

if TYPE_CHECKING:
    from backend.engine import LocalEngine

AIM = 1.0
"""Nats between steered and clean at the next token."""
NEW = 20
"""Tokens of a continuation."""
LONGEST, LEAST = 32, 4
"""Tokens of a prompt."""
KEPT = 64
"""Features whose steered texts are kept: a feature's null labels are asked about the same ones."""


def load(store: Store, harvest: str) -> "LocalEngine":
    """The model and dictionaries of a harvest. InputError where this machine does not have them."""
    from backend.engine import LocalEngine
    from backend.model.device import choose_placement

    return LocalEngine.load(store.harvest(harvest), store.places.read_all(), choose_placement())


def activates(engine: "LocalEngine") -> MeasureActivations:
    """The largest |activation| of a feature in each text, counted tokens only; NaN for a text that
    cannot be read."""

    def peaks(feature: FeatureId, texts: Sequence[str]) -> np.ndarray:
        return np.array([peak(engine, feature, text) for text in texts], np.float32)

    async def found(feature: FeatureId, texts: Sequence[str]) -> np.ndarray:
        return await asyncio.to_thread(peaks, feature, texts)

    return found


def peak(engine: "LocalEngine", feature: FeatureId, text: str) -> float:
    """Of one text."""
    if not text.strip():
        return float("nan")
    read = engine.read(engine.cut_to_context(text))
    acts = engine.compute_activations(read, [feature.dictionary])[feature.dictionary].by_position(
        feature.index
    )
    return max((abs(value) for at, value in acts.items() if read.counted[at]), default=0.0)


def sources(engine: "LocalEngine", file: HarvestFile) -> FeatureAttentionSources:
    """Each token's share in a feature's activation at a window's peak, over all heads; None where
    its dictionary does not read hook_z."""

    def shares(feature: FeatureId, example: TextWindow) -> list[float] | None:
        tokens = file.sequences.tokens(example.sequence)
        try:
            found = engine.attribute_to_sources(feature, tokens, example.start + example.peak)
        except InputError:
            return None
        whole = found.parts.sum(0)
        return whole[example.start : example.start + len(example.tokens)].tolist()

    async def of(feature: FeatureId, example: TextWindow) -> list[float] | None:
        return await asyncio.to_thread(shares, feature, example)

    return of


def surprisal(engine: "LocalEngine") -> MeasureSurprisal:
    """Mean nats per token of texts behind prefixes, by the harvest's own model."""
    from backend.model.text_likelihood import mean_loss_after_prefix

    def nats(prefixes: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        pairs = zip(prefixes, texts, strict=True)
        return np.array(
            [mean_loss_after_prefix(engine.lm, engine.read(p), text) for p, text in pairs]
        )

    async def found(prefixes: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        return await asyncio.to_thread(nats, prefixes, texts)

    return found


def steers(engine: "LocalEngine", file: HarvestFile) -> SteerPrompts:
    """What the model writes behind beginnings of contexts, left alone and with a feature added at
    the strength that moves the next token by AIM nats; the same for all labels of a feature."""
    kept: dict[tuple[FeatureId, int], asyncio.Task[list[SteeredPair]]] = {}

    async def found(feature: FeatureId, n: int) -> list[SteeredPair]:
        key = (feature, n)
        if key not in kept:
            while len(kept) >= KEPT:
                kept.pop(next(iter(kept)))
            kept[key] = asyncio.ensure_future(
                asyncio.to_thread(lambda: [steered(engine, feature, p) for p in begin(feature, n)])
            )
        return await asyncio.shield(kept[key])

    def begin(feature: FeatureId, n: int) -> list[list[int]]:
        return beginnings(file, feature, n)

    return found


def beginnings(file: HarvestFile, feature: FeatureId, n: int) -> list[list[int]]:
    """Tokens of up to `n` sequences of the score split, up to where the feature first fires in a
    stored context; so the model is about to write what may make it fire."""
    found: dict[int, list[int]] = {}
    for context in file.contexts(feature):
        if context.split != "score" or context.sequence in found:
            continue
        end = min(context.positions)
        tokens = file.sequences.tokens(context.sequence)[:end].tolist()
        if len(tokens) > LEAST:
            first = tokens[:1] if len(tokens) > LONGEST else []  # BOS, where there is one
            found[context.sequence] = [*first, *tokens[-LONGEST:]]
        if len(found) == n:
            break
    return list(found.values())


def steered(engine: "LocalEngine", feature: FeatureId, tokens: list[int]) -> SteeredPair:
    """One prompt's two continuations, from the same seed."""
    from backend.generation.prompt_tokenization import PromptTokens
    from backend.generation.records import GenerationRow, SamplingSettings, SummaryRecord
    from backend.generation.token_stream import StreamOptions, stream_tokens
    from backend.interventions.records import Edit
    from backend.steering.strength_for_kl import find_strength_for_kl, generate_unedited

    lm, dictionaries, start = engine.lm, engine.dictionaries, PromptTokens(tuple(tokens))
    edit = Edit("add", (feature,))
    (first,) = generate_unedited(
        lm, dictionaries, start, [0], SamplingSettings(max_new=1, temperature=0.0)
    )
    if not first:  # the model ends at once
        return SteeredPair("", "", "", float("nan"), 0.0)
    at = find_strength_for_kl(lm, dictionaries, [edit], AIM, start, [first[:1]])
    rows = [
        GenerationRow("clean"),
        GenerationRow("steered", (replace(edit, strength=at.strength),)),
    ]
    texts = {
        one.row: one.text
        for one in stream_tokens(
            lm, dictionaries, start, rows, SamplingSettings(max_new=NEW), StreamOptions(guard=False)
        )
        if isinstance(one, SummaryRecord)
    }
    prompt = str(lm.tokenizer.decode(tokens, skip_special_tokens=True))
    return SteeredPair(prompt, texts["clean"], texts["steered"], at.kl, at.strength)

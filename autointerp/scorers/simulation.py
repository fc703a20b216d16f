"""The simulation scorer: can the activation on every token be predicted from the label?

The judge says for each token of a window how strongly the feature fires, from 0 to 10 (Bills et al.
2023). Value: Pearson's correlation with the true |activations| over all tokens of all windows,
concatenated, firing and random silent ones. Where the judge gives log probabilities of its numbers,
their expected value is used, otherwise the numbers: one of the two in a whole run
(simulation_scale.py).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autointerp.contexts import FeatureSample
from autointerp.llm.requests_and_replies import ChatRequest, Reply, RequestFailure
from autointerp.scorers import classification_scores
from autointerp.scorers.judge_requests import (
    make_generator,
    make_judge_request,
    object_schema,
    request_key,
    require_asker,
)
from autointerp.scorers.prompt_templates import list_as_json, load_score_prompt, quote_as_json
from autointerp.scorers.scorer_interface import (
    LLM_JUDGE,
    PATTERN_JUDGE,
    JudgedItem,
    LabelScore,
    Scorer,
    ScorerTools,
)
from autointerp.scorers.simulation_scale import (
    LARGEST_NUMBER,
    NUMBERS,
    ScaleName,
    SimulationScale,
    number_shares,
)
from autointerp.text_windows import TextWindow
from feature_store.statistics import Estimate, explained_variance, pearson_correlation

NAME = "simulation"
WINDOWS_PER_KIND = 20
"""Number of windows of each kind that a language model simulates: each is a call of its own."""
NO_EXPECTED_VALUES = "no probabilities"
"""Kind of failure of a window whose numbers have no expected values, in a run that uses these."""
TOKENS_PER_NUMBER = 6
"""Number of reply tokens for each simulated number, in any layout."""


@dataclass(frozen=True)
class SimulatedWindow:
    """Simulated activations of one window's tokens: shares of the maximum, or probabilities to
    fire."""

    values: np.ndarray | None
    """Simulated activations [tokens] from 0 to 1; None where the simulation failed."""
    failed: str = ""


async def score(label: str, windows: FeatureSample, tools: ScorerTools) -> LabelScore:
    """Score a label by simulation: the correlation of simulated and true activations against random
    silent windows, with `hard`, `firing`, `explained variance` as parts.

    For explained variance, a model's 10 is the feature's maximum over the harvest, and a pattern's
    probability to fire is multiplied by the mean activation over active tokens.
    """
    windows_to_simulate = choose_simulation_windows(windows, tools)
    calls: tuple[str, ...] = ()
    detail: dict[str, object] = {}
    if tools.judge == PATTERN_JUDGE:
        simulated = simulate_by_patterns(label, windows_to_simulate)
    else:
        simulated, calls, scale_used = await simulate_with_model(label, windows_to_simulate, tools)
        detail["prompt"] = load_score_prompt(NAME).version
        detail["scale"] = scale_used
    facts = windows.facts
    scale = (facts.mean_act if tools.judge == PATTERN_JUDGE else facts.max_act) or 0.0
    rows = [
        judge_simulated_window(e, simulation, scale)
        for e, simulation in zip(windows_to_simulate, simulated, strict=True)
    ]
    detail["tokens"] = [
        None
        if simulation.values is None
        else np.round(simulation.values * LARGEST_NUMBER, 2).tolist()
        for simulation in simulated
    ]
    parts = estimate_simulation(windows_to_simulate, simulated, scale)
    value = parts.pop("correlation")
    failed = sum(simulation.values is None for simulation in simulated)
    return LabelScore(NAME, "correlation", value, parts, tuple(rows), failed, calls, detail)


def choose_simulation_windows(windows: FeatureSample, tools: ScorerTools) -> list[TextWindow]:
    """Return the windows to simulate: firing ones from the sample over the range, then silent
    ones."""
    ranged = [e for e in windows.positives if e.kind != classification_scores.TOP] or list(
        windows.positives
    )
    kinds: list[Sequence[TextWindow]] = [ranged, windows.random, windows.hard, windows.other]
    if tools.judge == PATTERN_JUDGE:
        return [e for kind in kinds for e in kind]
    generator = make_generator(tools, windows.feature.index)
    windows_to_simulate = []
    for kind in kinds:
        some = sorted(generator.permutation(len(kind))[:WINDOWS_PER_KIND].tolist())
        windows_to_simulate += [kind[i] for i in some]
    return windows_to_simulate


def simulate_by_patterns(
    label: str, windows_to_simulate: list[TextWindow]
) -> list[SimulatedWindow]:
    """Return the simulated activations of the pattern judge for each window."""
    from autointerp.patterns.pattern_judge import token_firing_probabilities

    return [
        SimulatedWindow(np.asarray(token_firing_probabilities(label, example.tokens), float))
        for example in windows_to_simulate
    ]


async def simulate_with_model(
    label: str, windows_to_simulate: list[TextWindow], tools: ScorerTools
) -> tuple[list[SimulatedWindow], tuple[str, ...], ScaleName | None]:
    """Simulate the activations of each window with a language model, one call per distinct window.

    Returns the simulated windows, the keys of the requests, and the scale of the run, which is None
    while no question was answered.
    """
    ask, requests = require_asker(tools, NAME), []
    for example in windows_to_simulate:
        n = len(example.tokens)
        prompt = load_score_prompt(NAME).fill(
            label=quote_as_json(label), n=n, items=list_as_json(example.tokens)
        )
        number = {"type": "integer", "minimum": 0, "maximum": LARGEST_NUMBER}
        schema = object_schema(
            "activations", {"type": "array", "items": number, "minItems": n, "maxItems": n}
        )
        most = 32 + TOKENS_PER_NUMBER * n
        requests.append(make_judge_request(prompt, schema, NAME, tools, max_tokens=most))
    scale = tools.scale or SimulationScale()
    earlier_replies = await scale.decide(ask, requests)

    async def answer(request: ChatRequest) -> Reply | RequestFailure:
        """Return the reply to one simulation request, which may have been asked already to decide
        the scale."""
        return (
            earlier_replies[request.key]
            if request.key in earlier_replies
            else await ask.ask(request)
        )

    replies = await asyncio.gather(*map(answer, requests))
    calls = tuple(dict.fromkeys(request_key(ask, request) for request in requests))
    return (
        [read_simulation(reply, scale.decided or NUMBERS) for reply in replies],
        calls,
        scale.decided,
    )


def read_simulation(reply: Reply | RequestFailure, scale: ScaleName) -> SimulatedWindow:
    """Return the simulated activation of each token in a reply, from 0 to 1: the numbers 0 … 10 as
    written or their expected values, by the scale of the run, divided by 10; a failure where a
    reply does not allow that scale."""
    if isinstance(reply, RequestFailure):
        return SimulatedWindow(None, failed=reply.kind)
    simulated = reply.parsed["activations"]
    if scale == NUMBERS:
        return SimulatedWindow(np.array(simulated, float) / LARGEST_NUMBER)
    shares = number_shares(reply, simulated)
    known = [each for each in shares or () if each is not None]
    if shares is None or len(known) < len(shares):
        return SimulatedWindow(None, failed=NO_EXPECTED_VALUES)
    values = [sum(int(k) * p for k, p in each.items()) for each in known]
    return SimulatedWindow(np.array(values) / LARGEST_NUMBER)


def judge_simulated_window(
    example: TextWindow, simulated: SimulatedWindow, scale: float
) -> JudgedItem:
    """Return a simulated window as a judged item: its largest |activation|, true and simulated."""
    silent = example.kind == classification_scores.OTHER_SIDE
    return JudgedItem(
        example.sequence,
        example.start,
        example.document,
        example.kind,
        0.0 if silent else max(map(abs, example.activations)),
        None if simulated.values is None else float(simulated.values.max()) * scale,
        failed=simulated.failed,
        weight=example.weight,
    )


def estimate_simulation(
    windows_to_simulate: list[TextWindow], simulated: list[SimulatedWindow], scale: float
) -> dict[str, Estimate]:
    """Return all estimates of a simulation by name, each from the firing windows and one kind of
    silent windows."""
    usable = [
        (e, simulation.values)
        for e, simulation in zip(windows_to_simulate, simulated, strict=True)
        if not simulation.failed
    ]
    firing = [
        pair
        for pair in usable
        if any(pair[0].activations) and pair[0].kind != classification_scores.OTHER_SIDE
    ]
    parts: dict[str, Estimate] = {}
    names = {
        classification_scores.RANDOM: "correlation",
        classification_scores.HARD: "hard",
        classification_scores.OTHER_SIDE: classification_scores.OTHER_SIDE,
    }
    kinds = {e.kind for e in windows_to_simulate}
    for kind, name in names.items():
        if kind == classification_scores.RANDOM or kind in kinds:
            silent = [pair for pair in usable if pair[0].kind == kind]
            parts[name] = pearson_correlation(*concatenate_tokens(firing, silent))
    parts["firing"] = pearson_correlation(*concatenate_tokens(firing, []))
    silent = [pair for pair in usable if pair[0].kind == classification_scores.RANDOM]
    x, y, documents, strata = concatenate_tokens(firing, silent)
    # scaled to the dictionary's units: explained variance, unlike correlation, depends on the scale
    parts["explained variance"] = explained_variance(x * scale, y, documents, strata)
    return parts


WindowValues = Sequence[tuple[TextWindow, np.ndarray | None]]


def concatenate_tokens(firing: WindowValues, silent: WindowValues) -> tuple[np.ndarray, ...]:
    """Return for all tokens of simulated windows, concatenated: simulated and true |activation|,
    document, and 1 in firing windows.

    Where only the other sign of a signed feature fires, this sign's activation is 0.
    """
    simulated: list[np.ndarray] = [np.empty(0)]
    true, documents, strata = [np.empty(0)], [np.empty(0, int)], [np.empty(0, int)]
    for number, pairs in ((1, firing), (0, silent)):
        for example, values in pairs:
            n = len(example.tokens)
            simulated.append(np.asarray(values, float))
            true.append(np.abs(example.activations) * number)
            documents.append(np.full(n, example.document))
            strata.append(np.full(n, number))
    return tuple(map(np.concatenate, (simulated, true, documents, strata)))


SCORER = Scorer(
    "Simulation",
    "The judge predicts every token's activation; the value is the correlation with the true one.",
    "correlation",
    0.0,
    score,
    frozenset((PATTERN_JUDGE, LLM_JUDGE)),
    bounds=(-1.0, 1.0),
)

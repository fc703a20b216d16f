"""Rows of an embedding that no tokenizer names are drawn, listed, ranked and averaged nowhere."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.ablation.ablation_requests import AblationRequest, PromptCase
from backend.ablation.model_parts import ModelPart
from backend.ablation.prompt_ablation import ablate_prompts
from backend.circuits.logit_targets import build_logit_target, select_likeliest_logits
from backend.circuits.single_prompt_faithfulness import build_single_prompt
from backend.circuits.weight_connections import find_de_embedding_tokens
from backend.dictionaries import load
from backend.engine import LocalEngine
from backend.generation.next_tokens import predict_next_tokens
from backend.generation.prompt_tokenization import tokenize_text
from backend.generation.records import GenerationRow, SamplingSettings, TokenRecord
from backend.generation.sampling import TokenSampler
from backend.generation.steering_request import SteeringRequest
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.interventions.records import Edit
from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel
from backend.model.vocabulary import count_nameable_tokens, vocabulary_bytes
from feature_store.errors import InputError
from feature_store.records import Context, FeatureId
from tests.dictionaries import CPU, saved
from tests.harvests import Rig, content
from tests.models import VOCAB, hf_model, tokenizer

PADDING = 16
TEXT = "the old cat saw a red"
FEATURE = FeatureId("resid", 3)
N = len(VOCAB)


def padded_model(loud: float = 4.0):
    """A random Llama with more rows than its tokenizer has tokens, and those rows the loudest."""
    model = hf_model("llama")
    model.resize_token_embeddings(N + PADDING, mean_resizing=False)
    with torch.no_grad():
        for matrix in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
            matrix[N:] = loud * matrix[:PADDING].std() * torch.randn(PADDING, matrix.shape[1])
    return model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    lm = LanguageModel.wrap(padded_model(), tokenizer(), "padded", choose_placement("cpu"))
    folder = tmp_path_factory.mktemp("padded")
    found = {}
    for name, kind in (("resid", "standard"), ("top", "topk")):
        found[name] = load(str(saved(folder / name, kind, d_in=16)), name=name, placement=CPU)
    return LocalEngine(lm, found, bos=0)


def drawn(engine: LocalEngine, sampling: SamplingSettings, edited: bool) -> list[int]:
    edits = (Edit("add", (FEATURE,), 3.0),) if edited else ()
    start = tokenize_text(engine.lm, TEXT, bos=True)
    rows, extras = [GenerationRow("a", edits)], StreamOptions(top=9)
    made = stream_tokens(engine.lm, engine.dictionaries, start, rows, sampling, extras)
    tokens = [one for one in made if isinstance(one, TokenRecord)]
    return [one.id for one in tokens] + [row[0] for one in tokens for row in one.top]


def firing(engine: LocalEngine) -> tuple[int, int]:
    """A feature of `resid` and the last position where it fires."""
    fired = engine.compute_activations(engine.read(TEXT), ["resid"])["resid"]
    return int(fired.feature[-1]), int(fired.position[-1])


def ablated(engine: LocalEngine) -> list[int]:
    told = ablate_prompts(
        engine,
        AblationRequest((PromptCase(TEXT),), (ModelPart("feature", "resid", firing(engine)[0]),)),
    )
    return [moved[0] for prompt in told["prompts"] for at in prompt["moved"] for moved in at]


def removed(engine: LocalEngine) -> list[int]:
    ids = np.array(engine.read(TEXT).token_ids)
    feature, peak = firing(engine)
    context = Context("top", 0, None, "explain", 0, 0, 0, len(ids), peak, 1.0, [], [])
    return engine.measure_removal(FeatureId("resid", feature), context, ids).tokens


def last_logits(engine: LocalEngine) -> torch.Tensor:
    return engine.lm.logits(torch.tensor([engine.read(TEXT).token_ids]))[0, -1]


LISTS: dict[str, Callable[[LocalEngine], list[int]]] = {
    "greedy": lambda e: drawn(e, SamplingSettings(6, temperature=0), False),
    "sampled": lambda e: drawn(
        e, SamplingSettings(20, temperature=2.0, repetition_penalty=1.3), False
    ),
    "steered": lambda e: drawn(e, SamplingSettings(20, top_k=N + 5, top_p=0.99), True),
    "predicted": lambda e: [t for t, _ in e.predict_next_tokens(e.read(TEXT), 3, N + PADDING)],
    "lens of a text": lambda e: np.concatenate(
        [row.tokens.ravel() for row in e.lens_rows(e.read(TEXT))]
    ).tolist(),
    "lens of a feature": lambda e: list(range(len(e.logit_lens(FEATURE)))),
    "next tokens": lambda e: [
        row[0]
        for row in predict_next_tokens(
            e.lm, e.dictionaries, SteeringRequest(TEXT), e.read(TEXT).token_ids, N + PADDING
        ).rows
    ],
    "removal": removed,
    "ablation": ablated,
    "likeliest targets": lambda e: [
        int(aim.name)
        for aim in select_likeliest_logits(e.lm, last_logits(e), share=1.0, most=N + PADDING)
    ],
    "embeddings of a feature": lambda e: [
        *find_de_embedding_tokens(e.lm, e.dictionaries["resid"], 3, N + PADDING).up.tolist()
    ],
}


@pytest.mark.parametrize("name", LISTS)
def test_no_list_of_tokens_has_one_that_no_text_contains(engine: LocalEngine, name: str) -> None:
    ids = LISTS[name](engine)
    assert ids and max(ids) < N
    assert int(last_logits(engine).argmax()) >= N  # the model itself would have said one


def test_what_is_not_padded_is_drawn_as_before() -> None:
    logits = torch.randn(3, N, generator=torch.Generator().manual_seed(1))
    loud = torch.cat([logits, torch.full((3, PADDING), 50.0)], 1)
    both = [
        TokenSampler(SamplingSettings(seed=5), [5, 5, 6], [0], N).draw(one)
        for one in (logits, loud)
    ]
    assert torch.equal(*both)


def test_probabilities_are_the_models_own(engine: LocalEngine) -> None:
    """Padding counts in them, so that losses are what any other program computes."""
    found = dict(engine.predict_next_tokens(engine.read(TEXT), 6, N))
    ids = engine.read(TEXT).token_ids
    with torch.no_grad():
        wanted = engine.lm.bare(torch.tensor([ids])).logits[0, 6].softmax(-1)
    assert found == pytest.approx({i: float(wanted[i]) for i in found}, rel=1e-4)
    assert sum(found.values()) < 0.9


def test_a_lens_is_centred_over_the_tokens_that_it_lists(engine: LocalEngine) -> None:
    values = engine.logit_lens(FEATURE)
    assert values is not None and len(values) == N
    assert float(values.mean()) == pytest.approx(0, abs=1e-5)


def test_a_graphs_numbers_add_up_to_its_target(engine: LocalEngine) -> None:
    """The aim's direction, as a sum of logits less their mean, is what the target measures."""
    text, logits = engine.read(TEXT), last_logits(engine)
    aims = build_logit_target(engine.lm, logits, [7, 9])
    target = build_single_prompt(engine, text, aims).batch.target
    normed = engine.lm.activations(torch.tensor([text.token_ids]), ["ln_final.hook_out"])
    read = normed["ln_final.hook_out"][0, -1] @ aims[0].direction + aims[0].offset
    measured = target(engine.lm.logits(torch.tensor([text.token_ids])))
    assert float(read) == pytest.approx(float(measured[0]), abs=1e-4)


def test_what_features_add_toward_all_tokens_together_is_nothing(engine: LocalEngine) -> None:
    """As a logit counts from the mean of those that can be named."""
    text, at = engine.read("the cat"), 2
    total = sum(engine.attribute_logit(text, ["top"], token, at)["top"].value for token in range(N))
    assert np.abs(total).max() < 1e-3


def test_a_harvest_lists_and_names_only_what_the_tokenizer_has(
    engine: LocalEngine, rig: Rig, tmp_path: Path
) -> None:
    own = Rig(engine.lm, list(engine.dictionaries.values()), rig.folders[:2], rig.corpus)
    stored = content(own.harvest(tmp_path, tokens=400))
    assert [row["token_id"] for row in stored["token"]] == list(range(N))
    listed = {i for row in stored["feature"] for i in row["promoted_tokens"] or []}
    listed |= {i for row in stored["feature"] for i in row["suppressed_tokens"] or []}
    assert listed and max(listed) < N


def test_ids_are_counted_by_the_largest_and_not_by_how_many() -> None:
    named = tokenizer()
    assert count_nameable_tokens(named, N + PADDING) == N
    assert count_nameable_tokens(named, 10) == 10
    assert vocabulary_bytes(named, N + 2)[N:] == [f"<unused {i}>".encode() for i in (N, N + 1)]


def test_a_tokenizer_that_is_larger_than_its_model_is_refused_where_it_gives_such_an_id(
    engine: LocalEngine,
) -> None:
    larger = tokenizer()
    larger.add_tokens([f"extra{i}" for i in range(PADDING + 1)])
    own = LocalEngine(LanguageModel.wrap(padded_model(), larger, "small", CPU), {}, bos=0)
    beyond = f"the extra{PADDING}"
    assert own.read("the cat extra0").token_ids[-1] == N
    for read in (own.read, lambda text: tokenize_text(own.lm, text, bos=True)):
        with pytest.raises(InputError, match="the model's own tokenizer"):
            read(beyond)
    with pytest.raises(InputError, match="is not in padded's vocabulary"):
        ablate_prompts(
            engine, AblationRequest((PromptCase(tokens=(0, 5, N)),), (ModelPart.parse("resid/3"),))
        )

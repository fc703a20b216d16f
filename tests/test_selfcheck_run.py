"""The shared self-check gives what separate whole passes give, and sees what makes no sense."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backend.dictionaries import load
from backend.dictionaries.activation_rules import LinearRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.evaluation import reconstruction_losses, reconstruction_measurement
from backend.evaluation.reconstruction_batches import CountedMasks
from backend.evaluation.reconstruction_check import (
    ReconstructionCheck,
    describe_check_problems,
    unigram_loss,
)
from backend.evaluation.reconstruction_losses import (
    SummedLosses,
    is_difference_precise,
    is_recovery_precise,
)
from backend.evaluation.reconstruction_measurement import (
    TextPiece,
    check_reconstruction,
    check_reconstructions,
    run_check_to_end,
)
from backend.harvest.dictionary_measurements import (
    cut_sequence,
    measurement_from_check,
    select_check_pieces,
    share_evenly,
)
from backend.model.device import choose_placement
from backend.model.language_model import LanguageModel
from backend.model.partial_forward import PartialForward, make_recording_edit
from feature_store.errors import InputError
from tests.models import configs, shared, token_batch

PLACE = choose_placement("cpu")
SAES = ("sae-stories3m-resid3-topk", "transcoder-stories3m-mlp3", "sae-stories3m-attn5-topk")


@pytest.fixture(scope="module")
def stories3m(real: Path) -> LanguageModel:
    return LanguageModel.load(str(real / "stories3m"), PLACE)


@pytest.fixture(scope="module")
def stories(real: Path, stories3m: LanguageModel) -> list[list[int]]:
    path = real / "text" / "tinystories_validation_part.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()[:50]
    ids = stories3m.tokenizer([json.loads(x)["text"] for x in lines], add_special_tokens=False)
    return [[1, *row[:31]] for row in ids["input_ids"]]


def pieces_of(sequences: list[list[int]]) -> list[TextPiece]:
    return [TextPiece(tokens, number) for number, tokens in enumerate(sequences)]


def whole_passes(
    lm: LanguageModel, one: Dictionary, sequences: list[list[int]]
) -> dict[str, float]:
    """The figures by one whole forward pass for every sequence and edit."""
    x, y = [], []
    for tokens in sequences:
        got = lm.activations(torch.tensor([tokens]), [one.hook_name, one.hook_out])
        x.append(got[one.hook_name][0, 1:].clone())
        y.append(got[one.hook_out][0, 1:].clone())
    f, every = one.encode(torch.cat(x)), torch.cat(x)
    error = (torch.cat(y) - one.decode(f, every)).double().pow(2).sum()
    middle = torch.cat(y).double().mean(0)
    news = {"clean": None, "spliced": None, "zero": torch.zeros_like(middle), "mean": middle}
    sums = dict.fromkeys(news, 0.0)
    for number, tokens in enumerate(sequences):
        for name, new in news.items():

            def put(h: torch.Tensor, name: str = name, new: object = new, n: int = number):
                if name == "clean":
                    return h
                value = one.decode(one.encode(x[n]), x[n]) if new is None else new.float()
                return torch.cat([h[:, :1], (h[:, 1:] * 0 + value)], dim=1)

            losses = lm.token_losses(torch.tensor([tokens]), {one.hook_out: put})
            sums[name] += float(losses[0, 1:].double().sum())
    n = sum(len(tokens) - 2 for tokens in sequences)
    variance = (torch.cat(y).double() - middle).pow(2).sum()
    return {f"ce_{name}": value / n for name, value in sums.items()} | {
        "explained_variance": float(1 - error / variance),
        "l0": float((f != 0).sum(1).float().mean()),
        "largest": float(f.abs().max()),
    }


@pytest.mark.parametrize("kept", [1 << 29, 1])
def test_dictionaries_measured_together_get_the_figures_of_whole_passes(
    stories3m: LanguageModel,
    stories: list[list[int]],
    real: Path,
    kept: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one group, and in one group each."""
    monkeypatch.setattr(reconstruction_measurement, "MAX_KEPT_BYTES", kept)
    ours = [load(str(real / name), placement=PLACE, name=name) for name in SAES]
    found = run_check_to_end(
        check_reconstructions(stories3m, ours, pieces_of(stories[:6]), use_all_pieces=True)
    )
    for one in ours:
        for name, value in whole_passes(stories3m, one, stories[:6]).items():
            assert getattr(found[one.name], name) == pytest.approx(value, rel=2e-5), name


def test_an_early_end_changes_figures_within_their_margins(
    stories3m: LanguageModel, stories: list[list[int]], real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction_losses, "WANTED_MARGIN_SHARE", 0.4)
    one = load(str(real / SAES[0]), placement=PLACE)
    early = check_reconstruction(stories3m, one, stories)
    full = check_reconstruction(stories3m, one, stories, use_all_pieces=True)
    assert early.delta_ce_pieces < full.delta_ce_pieces == 50
    assert early.delta_ce_margin and full.delta_ce_margin
    assert early.delta_ce == pytest.approx(full.delta_ce, abs=2 * early.delta_ce_margin)
    assert early.recovery_mean == pytest.approx(full.recovery_mean, abs=0.02)
    same = ("explained_variance", "l0", "n_tokens", "ce_clean", "largest", "dead_share")
    assert all(getattr(early, name) == getattr(full, name) for name in same)


def test_a_pass_is_shared_by_all_and_ablations_by_a_hook_point(
    stories3m: LanguageModel, stories: list[list[int]], real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps: one clean pass, a run for each dictionary, and two for the one place they share."""
    one = load(str(real / SAES[0]), placement=PLACE)
    two = [replace(one, name="a"), replace(one, name="b")]
    steps = list(
        check_reconstructions(stories3m, two, pieces_of(stories[:10]), use_all_pieces=True)
    )
    batches = 2
    assert len(steps) == (1 + 2 + 2) * batches
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    neurons = [load("identity:blocks.2.mlp.hook_post", placement=PLACE, width=stories3m.width)]
    assert len(list(check_reconstructions(stories3m, neurons, pieces_of(stories[:10])))) == batches


@pytest.mark.parametrize("family", configs())
def test_a_pass_from_a_stored_block_is_the_whole_pass(family: str) -> None:
    """For every family of models; blocks before the start are not run."""
    lm = shared(family)
    forward = PartialForward(lm)
    tokens = token_batch(2, 9)
    for hook in ("blocks.1.hook_resid_pre", "blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"):
        last = forward.last_unchanged_block(hook)
        if last is None:
            assert not lm.has_fast_forward("blocks.0.hook_out")
            continue
        kept: dict[str, torch.Tensor] = {}
        lm.token_losses(tokens, {f"blocks.{last}.hook_out": make_recording_edit(kept, "h")})
        got = forward.token_losses(tokens, {hook: lambda h: h * 1.5}, (last, kept["h"]))
        want = lm.token_losses(tokens, {hook: lambda h: h * 1.5})
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
        assert "forward" not in vars(lm.block(0))


def test_a_model_whose_later_blocks_read_more_than_the_stream_runs_as_a_whole(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    first, last = tiny_lm.block(0), tiny_lm.block(2)
    handles = [
        first.self_attn.register_forward_hook(lambda m, a, out: seen.append(out[0])),
        last.register_forward_hook(lambda m, a, out: out + seen.pop() if seen else out * 2),
    ]
    try:
        assert PartialForward(tiny_lm).last_unchanged_block("blocks.1.hook_resid_pre") is None
    finally:
        for handle in handles:
            handle.remove()
    assert PartialForward(tiny_lm).last_unchanged_block("blocks.1.hook_resid_pre") == 0


FINE = ReconstructionCheck(
    n_documents=50,
    n_pieces=50,
    n_tokens=6000,
    explained_variance=0.9,
    l0=32.0,
    dead_share=0.1,
    dead_bound=0.0005,
    largest=3.0,
    ce_clean=2.0,
    ce_unigram=6.0,
    ce_spliced=2.1,
    ce_zero=9.0,
    ce_mean=7.0,
    delta_ce=0.1,
    delta_ce_margin=0.01,
    delta_ce_pieces=50,
    recovery_zero=0.99,
    recovery_mean=0.98,
    published_l0=32.0,
    published_explained_variance=0.9,
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"recovery_mean": -0.4},
            "harms the model more than the mean activation would",
        ),
        ({"ce_clean": 5.6}, "This model cannot predict these texts"),
        ({"n_documents": 5}, "Measured on 50 pieces of only 5 documents"),
        ({"explained_variance": -1e75}, "It explains -1.0e+75 of the variance"),
        ({"delta_ce": 3.0, "ce_spliced": 5.0}, "costs the model 3.00 nats per token"),
        ({"l0": 80.0}, "80.0 features fire per token where 32.0 were published"),
    ],
)
def test_what_makes_no_sense_is_said(change: dict, said: str) -> None:
    assert describe_check_problems(FINE) == []
    [sentence] = describe_check_problems(replace(FINE, **change))
    assert said in sentence and len(sentence) < 300


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name",
    [
        "explained_variance",
        "l0",
        "ce_clean",
        "ce_unigram",
        "ce_spliced",
        "delta_ce",
        "recovery_mean",
        "ce_mean",
        "ce_zero",
        "largest",
    ],
)
def test_no_number_that_is_not_finite_passes_as_healthy(name: str, bad: float) -> None:
    broken = replace(FINE, **{name: bad})
    assert (
        name in describe_check_problems(broken)[0]
        and "Not a finite number" in describe_check_problems(broken)[0]
    )
    assert broken.plain()[name] is None
    json.dumps(broken.plain(), allow_nan=False)
    if name in ("largest", "explained_variance"):
        with pytest.raises(InputError, match="^mine cannot be harvested. Not a finite number"):
            measurement_from_check("mine", broken, 1000)


def test_a_reconstruction_that_overflows_is_seen(tiny_lm: LanguageModel) -> None:
    none = torch.zeros(16, 3), torch.zeros(3), torch.zeros(3, 16)
    hook = "blocks.1.hook_resid_post"
    sequences = [token_batch(1, 12, seed=i)[0].tolist() for i in range(4)]
    for size, said in (
        (math.inf, "Not a finite number on this text: explained_variance, ce_spliced, delta_ce"),
        (3e38, r"It explains -\d\.\de\+7\d of the variance"),
    ):
        coder = AffineCoder(*none, b_dec=torch.full((16,), size), rule=LinearRule())
        huge = Dictionary("huge", *single_sites(hook, hook, coder), "directions", "huge", "", coder)
        assert any(
            re.search(said, one)
            for one in describe_check_problems(check_reconstruction(tiny_lm, huge, sequences))
        )


def test_text_that_a_model_cannot_read_is_said_so(
    stories3m: LanguageModel, stories: list[list[int]], real: Path
) -> None:
    """Stories read well; the same tokens in a random order mean nothing."""
    one = load(str(real / SAES[0]), placement=PLACE)
    assert describe_check_problems(check_reconstruction(stories3m, one, stories)) == []
    order = np.random.default_rng(0).permutation([t for s in stories for t in s[1:]])
    mixed = [[1, *part] for part in order[: len(order) // 30 * 30].reshape(-1, 30).tolist()]
    said = describe_check_problems(check_reconstruction(stories3m, one, mixed))
    assert any(sentence.startswith("This model cannot predict these texts") for sentence in said)


def test_the_unigram_loss_is_that_of_the_other_tokens() -> None:
    """By hand: three tokens of one kind and one of another, a vocabulary of ten."""
    seen, new = (2 + 2 / 10) / (3 + 2), (0 + 1 / 10) / (3 + 1)
    want = -(3 * math.log(seen) + math.log(new)) / 4
    assert unigram_loss([7, 7, 7, 2], 10) == pytest.approx(want)
    draws = np.random.default_rng(0).integers(0, 50, 20_000)
    assert unigram_loss(draws, 50_000) == pytest.approx(math.log(50), abs=0.03)


@given(st.lists(st.integers(0, 30), max_size=80), st.integers(1, 60))
def test_pieces_are_taken_as_evenly_as_can_be(have: list[int], n: int) -> None:
    got = share_evenly(have, n)
    assert sum(got) == min(n, sum(have))
    assert all(0 <= g <= h for g, h in zip(got, have, strict=True))
    open_ones = [g for g, h in zip(got, have, strict=True) if g < h]
    assert not open_ones or max(got) - min(open_ones) <= 1


def test_a_long_sequence_is_cut_into_pieces_that_begin_with_bos() -> None:
    pieces = cut_sequence([0, *range(1, 300)], bos=0)
    assert [len(p) for p in pieces] == [128, 128, 46]
    assert all(p[0] == 0 for p in pieces)
    assert [t for p in pieces for t in p[1:]] == list(range(1, 300))
    assert [len(p) for p in cut_sequence(list(range(140)), bos=None)] == [128]  # 12 are no piece


@pytest.mark.parametrize(("documents", "long"), [(3, 40), (49, 4), (50, 1), (70, 3)])
def test_fifty_pieces_come_from_as_many_documents_as_there_are(documents: int, long: int) -> None:
    class Plan:
        bos, n_sequences = 0, documents * long
        document = np.repeat(np.arange(documents), long)

        def tokens(self, i: int) -> np.ndarray:
            return np.array([0, *([self.document[i]] * 99)])

    pieces = select_check_pieces(Plan())  # type: ignore[arg-type]
    assert len(pieces) == 50
    counts = np.bincount([p.document for p in pieces])
    assert len(counts) == min(documents, 50) and counts.max() - counts.min() <= 1
    assert all(p.tokens[1] == p.document for p in pieces)


def losses_of(values: list[list[float]], documents: list[int]) -> SummedLosses:
    losses = SummedLosses()
    for row, document in zip(values, documents, strict=True):
        none = torch.empty(0, dtype=torch.long)
        scored = torch.ones(1, len(row), dtype=torch.bool)
        masks = CountedMasks(none, scored, [len(row)], np.empty(0, int))
        losses.add(torch.tensor([row]), masks, [document])
    return losses


def test_margins_hold_the_true_difference_and_ends_are_earned() -> None:
    """Coverage over 300 draws of 30 documents; a run does not end astride the one nat that
    decides, nor while the damage may be nothing."""
    dice, held = np.random.default_rng(0), 0
    for _ in range(300):
        clean = dice.normal(2, 1, (30, 20))
        edited = clean + dice.normal(0.3, 0.2, (30, 1)) + dice.normal(0, 0.3, (30, 20))
        units = list(range(30))
        mean, margin = losses_of(edited.tolist(), units).difference(
            losses_of(clean.tolist(), units)
        )
        held += abs(mean - 0.3) <= (margin or 0)
    assert 0.92 <= held / 300 <= 0.98
    units = list(range(30))
    flat = losses_of([[2.0] * 20] * 30, units)
    near = losses_of([[3.0 + 0.04 * (-1) ** i] * 20 for i in range(30)], units)
    assert not is_difference_precise(near, flat)
    assert is_difference_precise(
        losses_of([[2.5 + 0.04 * (-1) ** i] * 20 for i in units], units), flat
    )
    vague = losses_of([[2.0 + 2 * (-1) ** i] * 20 for i in units], units)
    assert not is_recovery_precise(vague, flat, flat)

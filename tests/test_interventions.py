"""What an edit does to a stream: the laws that every mode, dictionary and model must keep."""

from dataclasses import replace

import pytest
import torch

from backend.dictionaries import load
from backend.interventions import named_activations
from backend.interventions.edit_modes import MODES
from backend.interventions.edit_operations import compile_operations
from backend.interventions.edit_plan import EditPlan, compile_edits
from backend.interventions.edited_logits import compute_edited_logits
from backend.interventions.named_activations import NamedFeatures
from backend.interventions.records import (
    Edit,
    EditCondition,
    EditSchedule,
    FrozenLayers,
    SteeringVector,
)
from backend.model.language_model import LanguageModel
from feature_store.records import FeatureId
from tests import dictionaries as tiny
from tests.editing import FORMS, POST, dictionaries, edit, text
from tests.models import tiny as model

MODELS = ["llama", "gpt2", "gemma2"]
NORMS = ["none", *tiny.PER_TOKEN, "expected_average_only_in"]
NEUTRAL = [name for name, mode in MODES.items() if mode.neutral is not None]
WHOLE = EditCondition(special=True, bos=True)


def logits(lm: LanguageModel, *edits: Edit, freeze: FrozenLayers | None = None) -> torch.Tensor:
    return compute_edited_logits(
        compile_edits(lm, dictionaries(), [edits], freeze=freeze), [text()]
    ).logits


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


KINDS = [(one, norm) for one in [*tiny.SAES, *tiny.TRANSCODERS] for norm in NORMS]
KINDS += [(one, "covariance_whitening") for one in tiny.SAES if one != "matching_pursuit"]
KINDS += [("temporal", norm) for norm in ("none", "layer_norm", "constant_scalar_rescale")]


@pytest.mark.parametrize(("architecture", "norm"), KINDS)
def test_the_difference_is_that_of_decoding(
    tmp_path, tiny_lm: LanguageModel, architecture, norm
) -> None:
    fields = {"normalize_activations": norm, "activation_normalization_factor": 3.0}
    if architecture != "temporal":
        del fields["activation_normalization_factor"]
    folder = tiny.saved(tmp_path, architecture, **fields)
    if norm == "expected_average_only_in":
        tiny.save_scaler(folder, 1.7)
    if norm == "covariance_whitening":
        tiny.save_whitening(folder)
    one = load(str(folder), placement=tiny.EXACT)
    x = tiny.tokens(20, d=one.d_in)[None].double()
    f = one.encode(x)
    wanted = f.clone()
    wanted[..., [3, 7]] = 1.7
    clamp = edit("clamp", f"{one.name}/3", f"{one.name}/7", strength=1.7)
    (made,) = compile_operations(tiny_lm, {one.name: one}, [[clamp]])
    want = one.decode(wanted, x) - one.decode(f, x)
    got = made.difference(x.new_zeros(1, 20, one.d_out), x, 20, 0)
    close(got.expand_as(want), want, 1e-5)


@pytest.mark.parametrize("architecture", ["topk", "abstopk"])
def test_one_token_or_many_are_encoded_alike(tmp_path, monkeypatch, architecture: str) -> None:
    """A token or a few go one way through TopK, many another."""
    named = NamedFeatures(tiny.loaded(tmp_path, architecture), torch.tensor([3, 7, 11]))
    x = tiny.tokens()[None]
    few = named.activations(x)
    monkeypatch.setattr(named_activations, "LARGEST_DENSE", 0)
    close(few, named.activations(x), 1e-5)
    close(few, named.dictionary.encode(x)[..., [3, 7, 11]], 1e-5)
    assert few.count_nonzero() > 0


@pytest.mark.parametrize("name", [name for name in FORMS if name != "middle"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_an_edit_replaces_one_value_and_keeps_the_error(architecture: str, name: str) -> None:
    """By the model's other way to change a stream: encode, change, decode, add the difference."""
    lm, one = model(architecture), dictionaries()[name]
    x = lm.activations(torch.tensor([text()]), [one.hook_name])[one.hook_name]
    f = one.encode(x)
    wanted = f.clone()
    wanted[..., 5] = 2.0
    added = one.decode(wanted, x) - one.decode(f, x)
    want = lm.logits(torch.tensor([text()]), {one.hook_out: lambda h: h + added})
    close(logits(lm, edit("clamp", f"{name}/5", where=WHOLE)), want)


FIRING = {"relu": (0, 11), "topk": (3, 15), "mlp": (0, 7), "sequence": (13, 22)}


@pytest.mark.parametrize("name", FIRING)
@pytest.mark.parametrize("mode", NEUTRAL)
def test_neutral_strength_changes_nothing(tiny_lm: LanguageModel, mode: str, name: str) -> None:
    neutral = MODES[mode].neutral
    assert neutral is not None
    features = [f"{name}/{i}" for i in FIRING[name]]
    got = logits(tiny_lm, edit(mode, *features, strength=neutral, where=WHOLE))
    close(got, logits(tiny_lm), 1e-5)
    other = edit(mode, *features, strength=neutral + 0.7, where=WHOLE)
    assert not torch.allclose(logits(tiny_lm, other), logits(tiny_lm), atol=1e-3)


def stream(lm: LanguageModel, *edits: Edit) -> tuple[torch.Tensor, torch.Tensor]:
    """The last block's stream, clean and edited, where nothing can follow but the final norm."""
    last = "blocks.2.hook_resid_post"
    h = lm.activations(torch.tensor([text()]), [last])[last]
    (made, *_) = compile_operations(lm, dictionaries(), [edits])
    x = h if made.reads else None
    return h, h + made.difference(h, x, h.shape[1], 0)


def test_directions_by_their_formulae(tiny_lm: LanguageModel) -> None:
    d, e = dictionaries()["late"].W_dec[[3, 7]]
    u, w = d / d.norm(), e / e.norm()
    h, got = stream(tiny_lm, edit("orthogonal", "late/3", strength=0.0))
    close(got @ u, torch.zeros(1, 12))
    h, got = stream(tiny_lm, edit("cap", "late/3", strength=0.2))
    close(got @ u, (h @ u).clamp(max=0.2))
    h, got = stream(tiny_lm, edit("norm_relative", "late/3", strength=-0.5))
    close(got, h - 0.5 * h.norm(dim=-1, keepdim=True) * u)
    h, got = stream(tiny_lm, edit("redirect", "late/3", "late/7", strength=1.0))
    close(got, h - (h @ u)[..., None] * u + (h @ u)[..., None] * w)
    h, got = stream(tiny_lm, edit("sparse_shift", "late/3", strength=3.0, percent=25.0))
    assert ((got - h)[0].abs() > 1e-6).sum(-1).tolist() == [4] * 12
    close((got - h).abs().amax(-1), 3 * d.abs().max().expand(1, 12))


def test_codes_by_their_formulae(tiny_lm: LanguageModel) -> None:
    one = dictionaries()["late"]
    h, _ = stream(tiny_lm, edit("zero", "late/5"))
    f = one.encode(h)[..., [5, 7]]

    def moved(edit: Edit) -> torch.Tensor:
        h, got = stream(tiny_lm, edit)
        return torch.linalg.lstsq(one.W_dec[[5, 7]].T, (got - h)[0].T).solution.T[None]

    both = ("late/5", "late/7")
    close(moved(edit("swap", *both, strength=1.0)), f.flip(-1) - f)
    close(moved(edit("zero", *both, strength=0.5)), -f / 2)
    close(moved(edit("multiply", *both, strength=3.0)), 2 * f)
    close(moved(edit("mean", *both, strength=1.0)), torch.tensor([0.5, 1.5]) - f)
    close(moved(edit("add_max", *both, strength=2.0)), torch.tensor([3.0, 5.0]).expand_as(f))
    slots = torch.arange(12)[None, :, None] * 0.1
    close(moved(edit("resample", *both, strength=1.0)), slots - f)


def test_a_vector_steers_as_the_feature_whose_direction_it_is(tiny_lm: LanguageModel) -> None:
    values = tuple(dictionaries()["relu"].W_dec[3].double().tolist())
    given = Edit("add", vector=SteeringVector("mine", POST, values), strength=4.0)
    close(logits(tiny_lm, given), logits(tiny_lm, edit("add", "relu/3", strength=4.0)))


def test_order_does_not_matter_at_one_hook(tiny_lm: LanguageModel) -> None:
    edits = [
        edit("clamp", "relu/3"),
        edit("multiply", "topk/5", strength=-2.0),
        edit("orthogonal", "relu/9", strength=-1.0),
        edit("add", "enters/1"),
    ]
    close(logits(tiny_lm, *edits[:3]), logits(tiny_lm, *edits[2::-1]), 1e-5)
    # What enters a block is what left the last: edits there belong to the same hook point.
    read = compile_edits(tiny_lm, dictionaries(), [[edits[3], edits[0]]])
    assert len(compute_edited_logits(read, [text()]).shift) == 1


def test_later_hooks_read_the_edited_stream_or_the_clean_one(tiny_lm: LanguageModel) -> None:
    first, second = edit("add", "early/3", strength=9.0), edit("zero", "late/7", strength=1.0)
    last = "blocks.2.hook_resid_post"
    one = dictionaries()["late"]
    clean = tiny_lm.activations(torch.tensor([text()]), [last])[last]

    def want(read: str) -> torch.Tensor:
        def change(h: torch.Tensor) -> torch.Tensor:
            f = one.encode(clean if read == "clean" else h)
            change = -f[..., 7:8] * one.W_dec[7]
            return h + change * torch.tensor([0.0] + [1.0] * 11)[None, :, None]

        added = 9.0 * dictionaries()["early"].W_dec[3]
        spare = torch.tensor([0.0] + [1.0] * 11)[None, :, None]
        early = {"blocks.0.hook_resid_post": lambda h: h + added * spare, last: change}
        return tiny_lm.logits(torch.tensor([text()]), early)

    for read in ("edited", "clean"):
        close(logits(tiny_lm, first, replace(second, read=read)), want(read))
    assert not torch.allclose(want("edited"), want("clean"), atol=1e-3)


def mixed(lm: LanguageModel) -> tuple[list[list[Edit]], list[list[int]]]:
    names = ["relu", "topk", "normed", "mlp", "late", "middle"]
    rows = [[], *([edit("clamp", f"{name}/5"), edit("add", f"{name}/6")] for name in names)]
    rows += [[edit("clamp", "relu/5", strength=s)] for s in (0.5, 4.0)]
    return rows, [text(12, seed) for seed in range(len(rows))]


@pytest.mark.parametrize("architecture", MODELS)
def test_a_row_in_a_batch_is_as_it_is_alone(architecture: str) -> None:
    lm = model(architecture)
    rows, texts = mixed(lm)
    got = compute_edited_logits(compile_edits(lm, dictionaries(), rows), texts).logits
    for row, (edits, one) in enumerate(zip(rows, texts, strict=True)):
        alone = compute_edited_logits(compile_edits(lm, dictionaries(), [edits]), [one]).logits
        close(got[row], alone[0])


def on(road: str, plan: EditPlan) -> EditPlan:
    return replace(plan, path=road)  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", MODELS)
def test_the_bridge_and_the_plain_model_agree(architecture: str) -> None:
    lm = model(architecture)
    rows, texts = mixed(lm)
    plan = compile_edits(lm, dictionaries(), rows, guard=True)
    assert plan.path == "bare"
    bare, bridge = (compute_edited_logits(on(road, plan), texts) for road in ("bare", "bridge"))
    close(bare.logits, bridge.logits)
    assert bare.kl is not None
    assert bridge.kl is not None
    close(bare.kl, bridge.kl)
    for hook, shift in bare.shift.items():
        close(shift, bridge.shift[hook], 1e-3)


def test_a_row_without_edits_keeps_its_bits(tiny_lm: LanguageModel) -> None:
    rows, texts = mixed(tiny_lm)
    edited = compute_edited_logits(compile_edits(tiny_lm, dictionaries(), rows), texts).logits[0]
    plain = compute_edited_logits(
        compile_edits(tiny_lm, dictionaries(), [[]] * len(rows)), texts
    ).logits[0]
    assert torch.equal(edited, plain)


def test_padding_on_the_right_does_not_matter(tiny_lm: LanguageModel) -> None:
    plan = compile_edits(tiny_lm, dictionaries(), [[edit("add", "relu/3")]] * 2)
    got = compute_edited_logits(plan, [text(7), text(12)]).logits
    alone = compile_edits(tiny_lm, dictionaries(), [[edit("add", "relu/3")]])
    close(got[:1, :7], compute_edited_logits(alone, [text(7)]).logits)


def test_an_edit_at_resid_mid_stays_in_the_stream(tiny_lm: LanguageModel) -> None:
    d = dictionaries()["middle"].W_dec[3]
    want = tiny_lm.logits(torch.tensor([text()]), {"blocks.1.hook_resid_mid": lambda h: h + 3 * d})
    close(logits(tiny_lm, edit("add", "middle/3", strength=3.0, where=WHOLE)), want)


def effect(lm: LanguageModel, strength: float, freeze: FrozenLayers) -> torch.Tensor:
    one = edit("add", "early/3", strength=strength)
    return logits(lm, one, freeze=freeze) - logits(lm)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "neox"])
def test_with_everything_frozen_an_effect_is_linear(architecture: str) -> None:
    lm = model(architecture)
    every = (0, 2)
    whole = FrozenLayers(patterns=every, norms=every, mlps=every)
    close(effect(lm, 4.0, whole), 4 * effect(lm, 1.0, whole), 1e-3)
    for part in (FrozenLayers(patterns=every), FrozenLayers(norms=every), FrozenLayers(mlps=every)):
        curved = effect(lm, 4.0, part) - 4 * effect(lm, 1.0, part)
        assert curved.abs().max() > 1e-2


def test_a_frozen_mlp_says_what_it_said(tiny_lm: LanguageModel) -> None:
    mlp = "blocks.1.hook_mlp_out"
    clean = tiny_lm.activations(torch.tensor([text()]), [mlp])[mlp]
    added = 5 * dictionaries()["early"].W_dec[3]
    changes = {"blocks.0.hook_resid_post": lambda h: h + added, mlp: lambda h: clean}
    want = tiny_lm.logits(torch.tensor([text()]), changes)
    one = edit("add", "early/3", strength=5.0, where=WHOLE)
    close(logits(tiny_lm, one, freeze=FrozenLayers(mlps=(1, 1))), want)


def test_kl_and_shift_are_what_they_say(tiny_lm: LanguageModel) -> None:
    one = edit("add", "relu/3", strength=2.0)
    got = compute_edited_logits(
        compile_edits(tiny_lm, dictionaries(), [[], [one]], guard=True), [text()] * 2
    )
    p, q = logits(tiny_lm)[0].softmax(-1), got.logits[1].softmax(-1)
    assert got.kl is not None
    close(got.kl[1], (p * (p / q).log()).sum(-1), 1e-5)
    assert got.kl[0].max() == 0
    h = tiny_lm.activations(torch.tensor([text()]), [POST])[POST][0]
    want = 2 * dictionaries()["relu"].W_dec[3].norm() / h.norm(dim=-1)
    close(got.shift[POST][1][1:], want[1:])
    assert got.shift[POST][1, 0] == 0  # BOS passes unchanged


def test_watched_features_are_read_before_the_edit(tiny_lm: LanguageModel) -> None:
    watch = [FeatureId("relu", 3), FeatureId("topk", 4), FeatureId("late", 2)]
    rows = [[], [edit("clamp", "relu/3", strength=50.0)]]
    plan = compile_edits(tiny_lm, dictionaries(), rows, watch=watch)
    got = compute_edited_logits(plan, [text()] * 2).watched
    assert got is not None
    h = tiny_lm.activations(torch.tensor([text()]), [POST])[POST]
    want = torch.stack([dictionaries()[f.dictionary].encode(h)[0, :, f.index] for f in watch[:2]])
    close(got[0, :, :2].T, want)
    close(got[1, :, :2].T, want)
    assert not torch.allclose(got[0, :, 2], got[1, :, 2])


def test_a_schedule_weighs_the_edit(tiny_lm: LanguageModel) -> None:
    """Half of an addition at a token is an addition of half."""
    here = EditCondition(parts="generated", positions=(6,))
    plan = compile_edits(
        tiny_lm,
        dictionaries(),
        [
            [edit("add", "relu/3", strength=4.0, where=here, when=EditSchedule("ramp", 2))],
            [edit("add", "relu/3", strength=2.0, where=here)],
        ],
    )
    got = compute_edited_logits(plan, [text()] * 2, n_prompt=6).logits
    close(got[0], got[1])

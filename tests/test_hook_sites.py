"""Dictionaries with several hook points: a cross-layer transcoder and a crosscoder, by hand.

The cross-layer transcoder reads layer 0 and writes layers 0 and 1; the crosscoder reads and writes
the streams after layers 0 and 1. Both go through encoding, editing, generation's cache, the logit
lens, splicing, the self-check and a harvest.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from backend.ablation.padded_prompts import PaddedPrompts
from backend.ablation.splice import measure_splice
from backend.attribution.dictionary_activations import read_dictionary_activations
from backend.circuits.sparse_feature_circuit import select_dictionaries
from backend.dictionaries.activation_rules import LinearRule, ThresholdRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.dictionaries.site_activations import read_activations
from backend.engine import LocalEngine
from backend.evaluation.reconstruction_measurement import check_reconstruction
from backend.features.direction_cosines import compute_pairwise_cosines
from backend.features.feature_removal import compute_removal_logits
from backend.features.logit_lens import compute_logit_lens, feature_logit_lens
from backend.interventions.edit_operations import compile_operations
from backend.interventions.edit_plan import compile_edits
from backend.interventions.edited_forward import EditedForward
from backend.interventions.edited_logits import compute_edited_logits
from backend.interventions.records import Edit
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile, connect_read_only
from feature_store.hook_sites import ReadSite, WriteSite
from feature_store.records import FeatureId
from tests.harvests import Rig, texts
from tests.models import token_batch

D = 16
READ = "blocks.0.ln2.hook_normalized"
MLP0, MLP1 = "blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"
POST0, POST1 = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"
TEXT = [0, *range(5, 15)]


def toy(name: str, reads: list[str], writes: list[str], n: int = 3, d: int = D) -> Dictionary:
    """ReLU features with random weights, of width d at each hook point."""
    g = torch.Generator().manual_seed(len(name))
    coder = AffineCoder(
        W_enc=torch.randn(d * len(reads), n, generator=g),
        b_enc=torch.rand(n, generator=g),
        W_dec=torch.randn(n, d * len(writes), generator=g),
        b_dec=torch.randn(d * len(writes), generator=g) * 0.1,
        rule=ThresholdRule(),
    )
    return Dictionary(
        name=name,
        reads=tuple(ReadSite(hook, d * i, d * (i + 1)) for i, hook in enumerate(reads)),
        writes=tuple(WriteSite(hook, d * i, d * (i + 1)) for i, hook in enumerate(writes)),
        architecture="toy",
        source=name,
        weights_hash=name.encode().hex().ljust(64, "0"),
        coder=coder,
    )


def clt() -> Dictionary:
    return toy("clt", [READ], [MLP0, MLP1])


def crosscoder() -> Dictionary:
    return toy("crosscoder", [POST0, POST1], [POST0, POST1])


def edited(lm: LanguageModel, one: Dictionary, edit: Edit) -> Tensor:
    return compute_edited_logits(compile_edits(lm, {one.name: one}, [[edit]]), [TEXT]).logits[0]


def by_hand(lm: LanguageModel, one: Dictionary, change: Tensor) -> Tensor:
    """Logits with a change [pos d_out] added at the hook points that are written, but at BOS."""
    change = change.clone()
    change[0] = 0
    adding = {site.hook: (lambda h, s=site: h + change[:, s.columns]) for site in one.writes}
    with torch.no_grad():
        return lm.logits(torch.tensor([TEXT]), adding)[0]


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_one_number_by_hand(tiny_lm: LanguageModel) -> None:
    """x = 1, encoder 2, decoders 3 and 5: f = 2, outputs 6 and 10; holding f at 1 gives -3, -5."""
    one = Dictionary(
        name="hand",
        reads=(ReadSite(READ, 0, 1),),
        writes=(WriteSite(MLP0, 0, 1), WriteSite(MLP1, 1, 2)),
        architecture="toy",
        source="hand",
        weights_hash="",
        coder=AffineCoder(
            torch.tensor([[2.0]]),
            torch.zeros(1),
            torch.tensor([[3.0, 5.0]]),
            torch.zeros(2),
            ThresholdRule(),
        ),
    )
    x = torch.ones(1, 1, 1)
    assert one.encode(x).tolist() == [[[2]]]
    assert one.reconstruct(x).tolist() == [[[6, 10]]]
    clamp = Edit("clamp", (FeatureId("hand", 0),), strength=1.0)
    made = compile_operations(tiny_lm, {"hand": one}, [[clamp]])
    assert [(m.reads, m.writes) for m in made] == [((READ,), MLP0), ((READ,), MLP1)]
    given = [float(m.difference(torch.zeros(1, 1, 1), x, 1, 0)) for m in made]
    assert given == [-3, -5]


def test_what_is_one_and_what_is_several() -> None:
    sae, several = toy("sae", [POST0], [POST0]), crosscoder()
    assert (sae.hook_name, sae.hook_out, sae.is_transcoder) == (POST0, POST0, False)
    assert clt().is_transcoder
    assert not several.is_transcoder
    assert several.hook_text == f"{POST0} + {POST1}"
    assert clt().hook_text == f"{READ} → {MLP0} + {MLP1}"
    with pytest.raises(InputError, match="crosscoder reads 2 hook points"):
        _ = several.hook_name
    with pytest.raises(InputError, match="clt writes 2 hook points"):
        _ = clt().hook_out
    with pytest.raises(InputError, match="do not divide its 16 coordinates"):
        replace(sae, reads=(ReadSite(POST0, 0, 8), ReadSite(POST1, 9, 16)))


@pytest.mark.parametrize("mode", ["add", "clamp", "zero"])
def test_a_cross_layer_transcoder_is_edited_at_every_write(tiny_lm: LanguageModel, mode) -> None:
    one, feature = clt(), 1
    f = one.encode(read_activations(tiny_lm, one, torch.tensor([TEXT]), one.processing))[0]
    new = f.clone()
    new[:, feature] = {"add": f[:, feature] + 2, "clamp": torch.tensor(2.0), "zero": f[:, 0] * 0}[
        mode
    ]
    strength = 1.0 if mode == "zero" else 2.0
    got = edited(tiny_lm, one, Edit(mode, (FeatureId("clt", feature),), strength=strength))
    close(got, by_hand(tiny_lm, one, (new - f) @ one.W_dec))


def test_a_crosscoder_is_edited_from_the_clean_models_activations(tiny_lm: LanguageModel) -> None:
    one = crosscoder()
    raw = tiny_lm.activations(torch.tensor([TEXT]), [POST0, POST1])
    f = (torch.cat([raw[POST0], raw[POST1]], -1)[0] @ one.W_enc + one.coder.b_enc).relu()  # type: ignore[union-attr]
    clamp = Edit("clamp", (FeatureId("crosscoder", 2),), strength=3.0, read="clean")
    change = torch.zeros_like(f)
    change[:, 2] = 3 - f[:, 2]
    close(edited(tiny_lm, one, clamp), by_hand(tiny_lm, one, change @ one.W_dec))
    add = Edit("add", (FeatureId("crosscoder", 2),), strength=3.0)
    close(edited(tiny_lm, one, add), by_hand(tiny_lm, one, 3 * one.W_dec[2].expand(len(TEXT), -1)))
    with pytest.raises(InputError, match="read: clean"):
        edited(tiny_lm, one, replace(clamp, read="edited"))


def test_a_crosscoder_is_edited_alike_token_by_token(tiny_lm: LanguageModel) -> None:
    one = crosscoder()
    clamp = Edit("clamp", (FeatureId("crosscoder", 0),), strength=3.0, read="clean")
    plan = compile_edits(tiny_lm, {one.name: one}, [[clamp]])
    whole = edited(tiny_lm, one, clamp)
    steps = EditedForward(plan, len(TEXT))
    parts = [steps.forward([TEXT[:4]], last=False)[0]]
    parts += [steps.forward([[token]], last=False)[0] for token in TEXT[4:]]
    close(torch.cat(parts), whole)


def test_watched_features_read_all_their_sites(tiny_lm: LanguageModel) -> None:
    one = crosscoder()
    plan = compile_edits(tiny_lm, {one.name: one}, [[]], watch=[FeatureId("crosscoder", 1)])
    x = read_activations(tiny_lm, one, torch.tensor([TEXT]), one.processing)
    got = compute_edited_logits(plan, [TEXT]).watched
    assert got is not None
    close(got[0, :, 0], one.encode(x)[0, :, 1])


def test_the_lens_is_that_of_all_that_is_added_to_the_stream(tiny_lm: LanguageModel) -> None:
    one = clt()
    row = one.W_dec[1:2]
    want = compute_logit_lens(tiny_lm, row[:, :D] + row[:, D:], POST1)
    got = feature_logit_lens(tiny_lm, one, 1)
    assert want is not None
    assert got is not None
    close(torch.from_numpy(got), want[0])
    inside = replace(one, writes=(one.writes[0], replace(one.writes[1], hook=READ)))
    assert feature_logit_lens(tiny_lm, inside, 1) is None


def test_cosines_are_of_the_same_hook_points_only(tiny_lm: LanguageModel) -> None:
    found = {"clt": clt(), "crosscoder": crosscoder()}
    features = [FeatureId("clt", 0), FeatureId("clt", 1), FeatureId("crosscoder", 0)]
    a, b = found["clt"].W_dec[:2]
    got = compute_pairwise_cosines(tiny_lm, found, features, "decoder")
    assert got[0][1] == pytest.approx(float(a @ b / a.norm() / b.norm()), abs=1e-6)
    assert got[0][2] is None


@pytest.mark.parametrize("make", [clt, crosscoder])
def test_splicing_puts_the_reconstruction_at_every_write(tiny_lm: LanguageModel, make) -> None:
    one = make()
    prompts = PaddedPrompts.of([text(tiny_lm)])
    found = measure_splice(tiny_lm, one, prompts)
    x = read_activations(tiny_lm, one, prompts.tokens, one.processing)
    rebuilt = ((x @ one.W_enc + one.coder.b_enc).relu() @ one.W_dec + one.coder.b_dec)[0]  # type: ignore[union-attr]

    def cost(value: Tensor) -> float:
        def put(h: Tensor, columns: slice) -> Tensor:
            new = h.clone()
            new[0, 1:] = value[1:, columns]
            return new

        edits = {s.hook: (lambda h, c=s.columns: put(h, c)) for s in one.writes}
        return float(tiny_lm.token_losses(prompts.tokens, edits)[0, 1:].mean())

    assert found.with_error == pytest.approx(found.clean, abs=1e-5)
    assert found.without_error == pytest.approx(cost(rebuilt), abs=1e-5)
    assert found.zero == pytest.approx(cost(torch.zeros_like(rebuilt)), abs=1e-5)


@pytest.mark.parametrize("make", [clt, crosscoder])
def test_the_self_check_splices_at_every_write(tiny_lm: LanguageModel, make) -> None:
    one = make()
    tokens = token_batch(6, 12)
    got = check_reconstruction(tiny_lm, one, tokens.tolist(), use_all_pieces=True)
    x = read_activations(tiny_lm, one, tokens, one.processing)
    raw = tiny_lm.activations(tokens, list(one.write_hooks))
    y = torch.cat([raw[hook] for hook in one.write_hooks], -1)[:, 1:].flatten(0, 1).double()
    guess = one.reconstruct(x)
    error = (y - guess[:, 1:].flatten(0, 1)).pow(2).sum() / (y - y.mean(0)).pow(2).sum()
    assert got.explained_variance == pytest.approx(1 - float(error), rel=1e-4)

    def put(h: Tensor, columns: slice) -> Tensor:
        new = h.clone()
        new[:, 1:] = guess[:, 1:, columns]
        return new

    edits = {s.hook: (lambda h, c=s.columns: put(h, c)) for s in one.writes}
    losses = tiny_lm.token_losses(tokens, edits)[:, 1:]
    assert got.ce_spliced == pytest.approx(float(losses.mean()), rel=1e-4)


def test_a_harvest_stores_their_sites_and_counts_their_firings(tmp_path: Path, tiny_lm) -> None:
    corpus = tmp_path / "text.jsonl"
    corpus.write_text("".join(json.dumps({"text": one}) + "\n" for one in texts(60)))
    found = [clt(), crosscoder()]
    path = Rig(tiny_lm, found, ["clt=clt", "crosscoder=crosscoder"], corpus).harvest(
        tmp_path / "store"
    )
    file = HarvestFile(path)
    for one in found:
        info = file.dictionary(one.name)
        assert (info.reads, info.writes) == (one.reads, one.writes)
        count = torch.zeros(one.d_sae, dtype=torch.int64)
        with connect_read_only(path) as db:
            rows = db.execute("SELECT token_ids FROM sequence").fetchall()
        for (ids,) in rows:
            tokens = torch.tensor([ids])
            f = one.encode(read_activations(tiny_lm, one, tokens, one.processing))[0]
            counted = ~torch.isin(tokens[0], torch.tensor(sorted(tiny_lm.special_ids)))
            count += (f[counted] != 0).sum(0)
        assert [file.facts(FeatureId(one.name, i)).n_active for i in range(3)] == count.tolist()
        lens = feature_logit_lens(tiny_lm, one, 0)
        assert lens is not None
        promoted = file.facts(FeatureId(one.name, 0)).promoted_tokens
        assert promoted is not None
        assert promoted[0] == int(lens.argmax())


def test_studies_of_one_hook_point_say_so(tiny_lm: LanguageModel) -> None:
    one = crosscoder()
    engine = LocalEngine(tiny_lm, {one.name: one}, bos=tiny_lm.bos)
    tokens = torch.tensor([TEXT])
    counted = torch.ones_like(tokens, dtype=torch.bool)
    sentence = "do not support crosscoder, which reads 2 and writes 2 hook points"
    with pytest.raises(InputError, match=f"Sparse feature circuits {sentence}"):
        select_dictionaries(engine, [one.name])
    with pytest.raises(InputError, match=f"circuits {sentence}"):
        read_dictionary_activations(tiny_lm, [one], tokens, counted)
    with pytest.raises(InputError, match=sentence):
        compute_removal_logits(tiny_lm, one, 0, tokens[0], counted[0])
    firing = engine.compute_activations(engine.text(TEXT), [one.name])[one.name]
    f = one.encode(read_activations(tiny_lm, one, tokens, one.processing))[0]
    assert len(firing.value) == int((f != 0).sum())


def text(lm: LanguageModel):
    return LocalEngine(lm, {}, bos=lm.bos).text(TEXT)


def test_a_linear_coder_of_one_site_is_made_as_before() -> None:
    eye = torch.eye(4)
    coder = AffineCoder(eye, torch.zeros(4), eye, torch.zeros(4), LinearRule())
    reads, writes = single_sites(POST0, POST1, coder)
    assert reads == (ReadSite(POST0, 0, 4),)
    assert writes == (WriteSite(POST1, 0, 4),)

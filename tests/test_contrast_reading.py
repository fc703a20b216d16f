"""Documents through a tiny model: what is read where, and the whole comparison."""

import numpy as np
import pytest
import torch

from backend.contrast import document_encoding
from backend.contrast.contrast_examples import CONTRAST_EXAMPLES
from backend.contrast.contrast_texts import ContrastDocument, collect_documents
from backend.contrast.text_set_contrast import contrast_text_sets
from backend.engine import LocalEngine
from feature_store.errors import InputError
from tests.harvests import Rig

CATS = ["the cat ran", "a big cat sat in the park", "old cat", "mum saw the cat and was happy"]
DOGS = ["the dog ran", "a big dog sat in the house", "old dog and bird , fish", "dad took dog"]


@pytest.fixture(scope="module")
def engine(rig: Rig) -> LocalEngine:
    return LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)


def alone(engine: LocalEngine, text: str, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Dense activations and the hook's own values on the counted tokens of one text."""
    read = engine.read(text)
    one = engine.dictionaries[name]
    acts = engine.lm.activations(torch.tensor([read.token_ids]), [one.hook_name])[one.hook_name]
    f = one.encode(acts if one.needs_sequence else acts[0]).reshape(len(read.token_ids), -1)
    return f[read.counted], acts[0][read.counted]


@pytest.mark.parametrize("unit", ["document", "last"])
def test_batches_give_what_each_document_gives_alone(engine: LocalEngine, unit) -> None:
    docs, _ = collect_documents({"cats": CATS, "dogs": DOGS}, unit)
    names = list(engine.dictionaries)
    got = document_encoding.encode_documents(engine, docs, names, unit)
    for name in names:
        for row, doc in enumerate(docs):
            f, h = alone(engine, doc.text, name)
            if unit == "last":
                f, h = f[-1:], h[-1:]
            for dense, found in (
                (f, got.features[name].tile(np.arange(got.features[name].width))[row]),
                (h, got.neurons[engine.dictionaries[name].hook_name][row]),
            ):
                peak = dense.gather(0, dense.abs().argmax(dim=0)[None])[0]
                assert found == pytest.approx(peak.numpy(), abs=1e-4)


def test_the_marked_token_is_the_last_of_its_span_whatever_follows(engine: LocalEngine) -> None:
    name = next(iter(engine.dictionaries))
    texts = {"a": ["the [[big cat]] ran to the park"], "b": ["the [[big cat]]", "the big [[c]]at"]}
    docs, _ = collect_documents(texts, "marked")
    values = document_encoding.encode_documents(engine, docs, [name], "marked").features[name]
    last = document_encoding.encode_documents(
        engine, [ContrastDocument("the big cat", 0)], [name], "last"
    ).features[name]
    whole = values.tile(np.arange(values.width))
    assert whole == pytest.approx(np.tile(last.tile(np.arange(values.width)), (3, 1)), abs=1e-5)


def test_long_documents_lose_their_end_or_where_one_token_counts_their_beginning(
    engine: LocalEngine,
) -> None:
    long = "cat " * 40 + "dog"
    whole = document_encoding.tokenize_document(engine, ContrastDocument(long, 0), "document")
    last = document_encoding.tokenize_document(engine, ContrastDocument(long, 0), "last")
    assert whole.cut and len(whole.ids) == engine.lm.n_ctx and whole.at is None
    assert last.cut and len(last.ids) == engine.lm.n_ctx and last.at == engine.lm.n_ctx - 1
    assert last.ids[0] == engine.bos and whole.ids[-1] != last.ids[-1]
    assert not document_encoding.tokenize_document(
        engine, ContrastDocument("cat " * 31, 0), "document"
    ).cut


def test_everything_is_compared_and_ranked(engine: LocalEngine) -> None:
    cats = [f"{text} {word}" for text in CATS for word in ("now", "day", "then")]
    dogs = [f"{text} {word}" for text in DOGS for word in ("now", "day", "then")]
    seen: list[float] = []
    names = list(engine.dictionaries)
    found = contrast_text_sets(
        engine, {"cats": cats, "dogs": [*dogs, dogs[0]]}, names, tick=seen.append
    )
    assert found.sizes == (12, 12) and found.repeats == 1 and found.cut == 0
    assert seen == sorted(seen) and seen[-1] == 1
    table = found.table.to_pandas()
    tested = table[table.p.notna()]
    assert len(tested) == found.tested and tested.p.is_monotonic_increasing
    assert ((tested.fires_a + tested.fires_b) >= 5).all() and (tested.q >= tested.p).all()
    row = table.iloc[0]
    value = found.values[row.dictionary].of(row.feature)
    assert (value[found.on_a] != 0).sum() == row.fires_a
    assert set(found.separation["kind"].to_pylist()) == {"features", "neurons"}


def test_few_documents_are_ranked_without_p_values(engine: LocalEngine) -> None:
    name = next(iter(engine.dictionaries))
    found = contrast_text_sets(engine, {"cats": CATS, "dogs": DOGS, "birds": ["a bird"]}, [name])
    assert found.sizes == (4, 5) and found.tested == 0 and found.found() == 0
    effect = np.abs(found.table["auc"].to_numpy() - 0.5)
    assert found.table["p"].null_count == found.table.num_rows
    assert (np.diff(effect) <= 1e-12).all() and effect[0] > 0


def test_work_stops_where_the_page_says_so(engine: LocalEngine) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contrast_text_sets(
            engine, {"cats": CATS, "dogs": DOGS}, list(engine.dictionaries), tick=stop
        )


def test_what_cannot_be_read_is_refused(engine: LocalEngine) -> None:
    name = next(iter(engine.dictionaries))
    with pytest.raises(InputError, match="No dictionary called 'nope'"):
        contrast_text_sets(engine, {"a": ["cat"], "b": ["dog"]}, ["nope"])
    with pytest.raises(InputError, match="No test called 'nope'"):
        contrast_text_sets(engine, {"a": ["cat"], "b": ["dog"]}, [name], by="nope")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CONTRAST_EXAMPLES)
def test_examples_are_ready_to_be_compared(name: str) -> None:
    example = CONTRAST_EXAMPLES[name]()
    docs, repeats = collect_documents(example.groups, example.unit)
    assert len(docs) == 80 and repeats == 0
    assert CONTRAST_EXAMPLES[name]() == example

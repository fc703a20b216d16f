"""Meaning: nearest labels by a static model and by the company of words, and what is not known."""

from pathlib import Path

import numpy as np
import pytest

from autointerp.text_embeddings import EmbeddedQuery, MeaningIndex, StaticEmbedder, normalize_rows
from autointerp.word_vectors import WordVectors
from feature_store.corpus_text import sample_corpus_texts
from feature_store.errors import InputError
from tests.embedders import static_model
from tests.stores import make_store

CORPUS = [f"the {animal} barked" for animal in ("dog", "puppy")] * 9
CORPUS += [f"in the green {place}" for place in ("park", "garden")] * 9
CORPUS += [f"{n} {what} of money" for n in ("two", "six") for what in ("coins", "notes")] * 9
LABELS = ["a dog that barked", "sums of money", "green garden", "", "sums of money"]


class Letters:
    """An embedder by letters that counts how often it is asked."""

    name = "letters"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed(self, texts) -> np.ndarray:
        self.texts += texts
        return normalize_rows(np.array([[t.count(c) for c in "abc"] for t in texts], np.float32))

    def embed_query(self, query: str) -> EmbeddedQuery:
        return EmbeddedQuery(
            normalize_rows(np.array([[query.count(c) for c in "abc"]], np.float32))[0]
        )


def found(index: MeaningIndex, query: str, *rest, **more) -> list[tuple[int, float]]:
    return index.find(index.embedder.embed_query(query), *rest, **more)


@pytest.fixture(scope="module")
def company() -> WordVectors:
    return WordVectors(CORPUS, LABELS)


@pytest.mark.parametrize(
    ("query", "first"), [("puppy", 0), ("coins", 1), ("park", 2), ("pupy", 0), ("COINS!", 1)]
)
def test_words_are_alike_that_keep_the_same_company(company, query: str, first: int) -> None:
    """None of these words is in the label that is found; one is spelled wrongly."""
    assert found(MeaningIndex(company, LABELS), query)[0][0] == first


@pytest.mark.parametrize("query", ["", "elephant", "?!"])
def test_what_is_not_known_finds_nothing(company, query: str) -> None:
    assert found(MeaningIndex(company, LABELS), query) == []


def test_what_was_taken_for_something_else_is_said(company) -> None:
    assert (
        company.embed_query("pupy elk barked").note
        == "“pupy” taken for “puppy”, “elk” is not known"
    )


def test_rows_have_length_one_or_none(company) -> None:
    lengths = np.linalg.norm(company.embed([*LABELS, "elephant"]), axis=1)
    assert lengths == pytest.approx([1, 1, 1, 0, 1, 0], abs=1e-6)


@pytest.mark.parametrize("labels", [[], [""], ["alone"], ["two words"]])
def test_hardly_anything_is_enough(labels: list[str]) -> None:
    index = MeaningIndex(WordVectors([], labels), labels)
    assert len(found(index, "two")) <= 1


def test_the_nearest_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc"), 6)) for _ in range(200)]
    letters = Letters()
    index = MeaningIndex(letters, texts)
    cosines = letters.embed(texts) @ letters.embed_query("aab").direction
    want = sorted(range(200), key=lambda i: (-cosines[i], i))
    nearest = found(index, "aab", 20)
    assert [i for i, _ in nearest] == want[:20]
    assert [c for _, c in nearest] == pytest.approx([cosines[i] for i in want[:20]])


def test_floor_and_choice_leave_texts_out() -> None:
    index = MeaningIndex(Letters(), ["a", "ab", "b", "a"])
    assert [i for i, _ in found(index, "a", floor=0.9)] == [0, 3]
    assert [i for i, _ in found(index, "a", among=np.array([False, True, True, True]))] == [3, 1]


def test_a_text_is_embedded_once() -> None:
    letters, heard = Letters(), []
    before = MeaningIndex(letters, ["a", "b", "a"], lambda *at: heard.append(at))
    assert letters.texts == ["a", "b"] and heard == [(0, 2)]
    after = MeaningIndex(letters, ["c", "b", "a"], before=before)
    assert letters.texts == ["a", "b", "c"]
    assert [i for i, _ in found(after, "b")] == [1] and [i for i, _ in found(after, "c")] == [0]


def test_a_static_model_is_read_from_a_folder(tmp_path: Path) -> None:
    """Its own vectors decide: here dog and puppy are the same direction, money another."""
    folder = static_model(tmp_path / "tiny", {"dog": (1, 0), "puppy": (2, 0), "money": (0, 1)})
    embedder = StaticEmbedder(str(folder))
    assert embedder.name == "tiny"
    index = MeaningIndex(embedder, ["a dog", "of money", "nothing known"])
    assert found(index, "puppy") == [(0, pytest.approx(1.0))]
    assert found(index, "money") == [(1, pytest.approx(1.0))]


@pytest.mark.parametrize("name", ["", "no/such/folder", "."])
def test_a_model_that_cannot_be_had_is_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="No model2vec model could be read from"):
        StaticEmbedder(str(tmp_path / name))


def test_corpus_text_is_the_sequences_without_markers(tmp_path: Path) -> None:
    file = make_store(tmp_path / "store").harvest()
    texts = sample_corpus_texts(file)
    assert len(texts) == len(file.sequences)
    assert not any("<s>" in text for text in texts) and " dog" in texts[0]
    assert 0 < len(sample_corpus_texts(file, 200)) < len(texts)

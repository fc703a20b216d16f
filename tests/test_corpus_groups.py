"""Copies, near copies and the texts of one template are always on one side of the split."""

import random

import numpy as np
import pytest

from backend.corpus.document_splits import assign_splits
from backend.corpus.documents import Document
from backend.corpus.minhash import content_hash, minhash_sketch, normalise_text
from backend.corpus.near_duplicates import DuplicateGroups

WORDS = [f"{a}{b}{c}" for a in "bdgklmprst" for b in "aeiou" for c in ("n", "rk", "st", "la", "x")]


def texts(n: int, words: int = 100, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(n)]


def documents(found: list[str], **facts: str) -> list[Document]:
    return [Document(f"d{i}", text, **facts) for i, text in enumerate(found)]


def disguised(text: str) -> str:
    return "\n ".join(text.upper().split()).replace(" ", " , ") + "!"


def one_in_fifty(text: str, rng: random.Random) -> str:
    words = text.split()
    for start in range(0, len(words), 50):
        words[start + rng.randrange(min(50, len(words) - start))] = "zzz"
    return " ".join(words)


def test_about_half_and_half() -> None:
    splits = assign_splits(documents(texts(1000)))
    assert 440 < splits.count("score") < 560  # 3.8 standard deviations


@pytest.mark.parametrize("length", [50, 100, 400])
def test_copies_never_straddle(length: int) -> None:
    """Exact ones, ones in other case, spacing and punctuation, and ones with words changed."""
    rng = random.Random(1)
    first = texts(300, length)
    copies = [make(t) for make in (str, disguised, lambda t: one_in_fifty(t, rng)) for t in first]
    splits = assign_splits(documents(first + copies))
    assert splits == splits[:300] * 4


def test_other_texts_are_not_copies() -> None:
    """A licence of 60 words above 100 words of one's own makes candidates, but no copies."""
    licence, *rest = texts(200, 100)
    groups = DuplicateGroups()
    for document in documents([f"{' '.join(licence.split()[:60])} {text}" for text in rest]):
        groups.add(document)
    assert len(np.unique(groups.keys())) == 199


def test_a_groups_key_is_the_smallest_content_hash_in_it() -> None:
    found = [" ".join(text.split()[:-1]) + f" {i}" for text in texts(20) for i in range(5)]
    groups = DuplicateGroups()
    for document in documents(found):
        groups.add(document)
    hashes = np.array([content_hash(text) for text in found], np.uint64).reshape(20, 5)
    assert (groups.keys() == hashes.min(axis=1).repeat(5)).all()


def test_order_does_not_matter() -> None:
    rng = random.Random(2)
    found = texts(150)
    found += [one_in_fifty(text, rng) for text in found]
    before = dict(zip(found, assign_splits(documents(found)), strict=True))
    rng.shuffle(found)
    assert dict(zip(found, assign_splits(documents(found)), strict=True)) == before


def test_templates_never_straddle() -> None:
    found = [Document(f"d{i}", t, f"t{i % 40}") for i, t in enumerate(texts(400))]
    splits = assign_splits(found)
    sides = {(d.template, split) for d, split in zip(found, splits, strict=True)}
    assert len(sides) == 40
    assert set(splits) == {"explain", "score"}


def test_few_groups_are_dealt_by_size() -> None:
    """Of 4 groups a hash would leave one side empty one time in eight."""
    found = [Document(f"d{i}", t, f"t{i % 4}") for i, t in enumerate(texts(40))]
    assert assign_splits(found).count("score") == 20


def test_the_seed_matters_and_nothing_else_does() -> None:
    found = documents(texts(100))
    assert assign_splits(found, seed=1) == assign_splits(found, seed=1)
    assert assign_splits(found, seed=1) != assign_splits(found, seed=2)


def test_normal_form() -> None:
    assert normalise_text(" The CAT,\n\tsat_on - it!") == "the cat sat on it"
    assert normalise_text("?! ...") == "?! ..."
    assert normalise_text("猫が好き") == "猫 が 好 き"


def test_a_sketch_estimates_similarity() -> None:
    """Against the sets of shingles themselves, within four standard errors."""
    rng = random.Random(3)
    for text in texts(20, 200):
        other = " ".join(text.split()[rng.randrange(100) :])
        a, b = (set(zip(*(t.split()[i:] for i in range(5)), strict=False)) for t in (text, other))
        estimate = (minhash_sketch(text) == minhash_sketch(other)).mean()
        assert abs(estimate - len(a & b) / len(a | b)) < 4 * 0.063


def test_a_long_text_is_sketched_as_in_one_piece() -> None:
    """A word hash does not depend on position, in or beyond the table of powers."""
    head = " ".join(texts(30, 400))  # longer than the table
    assert len(head) > 2**15
    assert (minhash_sketch(head + " " + head) == minhash_sketch(head)).mean() > 0.9

"""Two sides of documents: effects by hand, tests against enumeration, no discoveries in noise."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.contrast.contrast_texts import collect_documents, parse_text_file, split_lines
from backend.contrast.effect_sizes import compute_effect_sizes, newcombe_interval
from backend.contrast.jensen_shannon import BINS, jensen_shannon_distances
from backend.contrast.permutation_tests import (
    MIN_RELABELLINGS,
    benjamini_hochberg,
    firing_share_test,
    rank_scores,
    rank_sum_test,
)
from backend.contrast.strongest_activations import StrongestActivations
from feature_store.errors import InputError


def noise(n: int, m: int, seed: int = 0) -> np.ndarray:
    """Sparse values with ties and with features that go together."""
    rng = np.random.default_rng(seed)
    fires = rng.random((n, m)) < rng.uniform(0.1, 0.9, m)
    fires[:, m // 2 :] = fires[:, : m - m // 2]
    return (fires * rng.integers(1, 9, (n, m))).astype(np.float32)


def sides(n_a: int, n_b: int) -> np.ndarray:
    return np.arange(n_a + n_b) < n_a


def test_effects_by_hand() -> None:
    tile = np.array([[2.0], [0.0], [4.0], [0.0], [0.0], [-1.0]], np.float32)
    found = compute_effect_sizes(tile, sides(3, 3))
    assert (found.fires_a[0], found.fires_b[0]) == (2, 1)
    assert found.share_difference[0] == pytest.approx(1 / 3)
    assert found.auc[0] == pytest.approx((3 + 2 + 3) / 9)  # 2 and 4 beat all, 0 ties twice
    pooled = np.sqrt((8 + 2 / 3) / 4)
    assert found.hedges_g[0] == pytest.approx((2 + 1 / 3) / pooled * (1 - 3 / 15))


def test_an_effect_without_spread_is_not_a_number() -> None:
    found = compute_effect_sizes(np.array([[1.0], [1.0], [0.0], [0.0]], np.float32), sides(2, 2))
    assert np.isnan(found.hedges_g[0]) and found.auc[0] == 1


def test_newcombes_interval_is_the_published_one() -> None:
    """Newcombe (1998), table II, case (a), method 10: 56/70 against 48/80."""
    low, high = newcombe_interval(np.array([56]), 70, np.array([48]), 80)
    assert (low[0], high[0]) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_swapping_sides_turns_every_effect_around() -> None:
    tile, on_a = noise(20, 12), sides(8, 12)
    one, other = compute_effect_sizes(tile, on_a), compute_effect_sizes(tile, ~on_a)
    for name in ("share_difference", "hedges_g"):
        assert getattr(one, name) == pytest.approx(-getattr(other, name))
    assert one.auc == pytest.approx(1 - other.auc)
    assert one.share_low == pytest.approx(-other.share_high)


def enumerated(score: np.ndarray, n_a: int) -> float:
    """The two-sided p-value by going through every way to deal out the labels."""
    n = len(score)
    found = abs(score[:n_a].sum() / n_a - score[n_a:].sum() / (n - n_a))
    ways = list(combinations(range(n), n_a))
    every = [score[list(w)].sum() for w in ways]
    away = [abs(s / n_a - (score.sum() - s) / (n - n_a)) for s in every]
    return float(np.mean(np.array(away) >= found - 1e-9))


def test_both_tests_equal_enumeration_when_small() -> None:
    tile, on_a = noise(11, 9), sides(5, 6)
    ranks = rank_sum_test(lambda columns: tile[:, columns], 9, on_a)
    size = compute_effect_sizes(tile, on_a)
    shares = firing_share_test(size.fires_a, size.fires_b, 5, 6)
    assert ranks.exact and not ranks.relabellings.any()
    for column in range(9):
        score = rank_scores(tile)[:, column].astype(float)
        assert ranks.p[column] == pytest.approx(enumerated(score, 5))
        fires = (tile[:, column] != 0).astype(float)
        assert shares.p[column] == pytest.approx(enumerated(fires, 5))


def test_drawn_relabellings_agree_with_exact_shares_and_go_further_where_it_matters() -> None:
    """On features that only fire or not, both tests are one; perfect separation takes more."""
    on_a = sides(30, 30)
    tile = (noise(60, 200) > 0).astype(np.float32)
    tile[:, 0] = on_a
    test = rank_sum_test(lambda columns: tile[:, columns], 200, on_a)
    size = compute_effect_sizes(tile, on_a)
    exact = firing_share_test(size.fires_a, size.fires_b, 30, 30).p
    error = 5 * np.sqrt(exact * (1 - exact) / test.relabellings) + 2 / test.relabellings
    assert not test.exact and (np.abs(test.p - exact) < error).all()
    assert test.relabellings.min() == MIN_RELABELLINGS < test.relabellings[0] == 40 * 200
    assert test.p[0] == 1 / (test.relabellings[0] + 1)


@pytest.mark.parametrize("by", ["strength", "share"])
def test_shuffled_labels_give_discoveries_in_at_most_five_percent_of_runs(by: str) -> None:
    """A thousand runs: 5 % would be 50, and 65 is its 98.5th percentile."""
    n_a, n_b, m, runs = 12, 18, 60, 1000
    rng, false = np.random.default_rng(1), 0
    for run in range(runs):
        tile = noise(n_a + n_b, m, seed=run)
        on_a = rng.permutation(sides(n_a, n_b))
        tile = tile[:, (tile != 0).sum(axis=0) >= 5]
        size = compute_effect_sizes(tile, on_a)
        if by == "share":
            p = firing_share_test(size.fires_a, size.fires_b, n_a, n_b).p
        else:
            p = rank_sum_test(
                lambda columns, t=tile: t[:, columns], tile.shape[1], on_a, seed=run
            ).p
        false += bool((benjamini_hochberg(p) <= 0.05).any())
    assert false <= 65


def test_a_planted_difference_is_found() -> None:
    tile, on_a = noise(40, 100), sides(20, 20)
    tile[:, 7] = np.where(on_a, 3, 0) * (np.arange(40) % 5 != 0)
    q = benjamini_hochberg(rank_sum_test(lambda columns: tile[:, columns], 100, on_a).p)
    assert np.flatnonzero(q <= 0.05).tolist() == [7]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_q_is_benjamini_and_hochbergs_rule(p: list[float]) -> None:
    """q <= 0.1 exactly for the largest k with p_(k) <= 0.1 k / m, and all before it."""
    m, ordered = len(p), sorted(p)
    passed = [k for k in range(1, m + 1) if ordered[k - 1] <= 0.1 * k / m + 1e-15]
    limit = ordered[max(passed) - 1] if passed else -1.0
    q = benjamini_hochberg(np.array(p))
    assert [value <= 0.1 + 1e-14 for value in q] == [value <= limit for value in p]


def test_distance_is_one_apart_and_nothing_alike() -> None:
    group = np.array([0] * 8 + [1] * 8)
    tile = np.zeros((16, 4), np.float32)
    tile[:8, 0] = 1  # fires on one group only
    tile[:, 1] = np.tile(np.arange(8), 2)  # alike
    tile[:, 2] = np.arange(16) - 20  # ordered, never silent, negative
    tile[:4, 3] = 1  # fires on half of one group
    found = jensen_shannon_distances(tile, group)
    p, q = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    half = [(x * np.log2(x / ((p + q) / 2), where=x > 0, out=np.zeros(2))).sum() for x in (p, q)]
    expected = [1, 0, 1, np.sqrt(np.mean(half))]
    assert found.distance == pytest.approx(expected, abs=1e-6)
    assert found.shuffled.shape == (20, 4) and (found.shuffled[:, 0] < 1).any()


def test_three_groups_without_overlap_are_one_apart() -> None:
    group = np.repeat([0, 1, 2], BINS)
    tile = (group[:, None] * 5).astype(np.float32)
    tile[:, 0] += np.tile(np.arange(BINS) / 100, 3) * (group > 0)
    assert jensen_shannon_distances(tile, group).distance == pytest.approx([1.0])
    two_alike = (group == 2).astype(np.float32)[:, None]
    bits = np.log2(3) - 2 / 3  # of which of the three, less what remains when two are alike
    assert jensen_shannon_distances(two_alike, group).distance == pytest.approx(
        [np.sqrt(bits / np.log2(3))]
    )


def test_extremes_keep_the_largest_magnitude_with_its_sign() -> None:
    parts = [
        (np.array([0, 0, 2]), np.array([5, 5, 1]), np.array([1.0, -3.0, 2.0])),
        (np.array([1]), np.array([5]), np.array([4.0])),
    ]
    found = StrongestActivations.from_batches(parts, documents=3, width=6)
    assert found.active.tolist() == [1, 5]
    assert found.tile(np.array([1, 3, 5])).T.tolist() == [[0, 0, 2], [0, 0, 0], [-3, 4, 0]]
    assert StrongestActivations.from_batches([], 3, 6).of(2).tolist() == [0, 0, 0]


def test_texts_are_lines_once_a_group_and_marks_are_taken_out() -> None:
    given = {"A": split_lines("one\n\n  two \none"), "B": ["one"]}
    docs, repeats = collect_documents(given, "document")
    assert [(d.text, d.group) for d in docs] == [("one", 0), ("two", 0), ("one", 1)]
    assert repeats == 1
    (marked, _), _ = collect_documents({"A": ["the [[old cat]] ran"], "B": ["[[x]]"]}, "marked")
    assert marked.text == "the old cat ran" and marked.text[: marked.end] == "the old cat"


@pytest.mark.parametrize(
    ("groups", "unit", "sentence"),
    [
        ({"A": ["x"]}, "document", "only one set of texts"),
        ({"A": ["x"], "B": [" "]}, "document", "There are no texts in 'B'"),
        (
            {"A": [str(i) for i in range(2001)], "B": ["x"]},
            "document",
            "2,001 texts: at most 2,000 a side",
        ),
        ({"A": ["x"], "B": ["[[y]]"]}, "marked", "Text 1 of 'A' has no mark"),
        ({"A": ["[[y]]"], "B": ["[[y]]", "[[x]] [[y]]"]}, "marked", "Text 2 of 'B' has 2 marks"),
    ],
)
def test_texts_that_cannot_be_compared(groups: dict, unit, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        collect_documents(groups, unit)
    assert sentence in str(error.value)


def test_files_give_texts_by_label() -> None:
    assert parse_text_file("x.txt", b"\xef\xbb\xbfone\n\ntwo\n") == {"": ["one", "two"]}
    rows = b'{"text": "a\\nb", "label": "x"}\n\n{"text": "c", "label": 2}\n{"text": "d"}'
    assert parse_text_file("x.jsonl", rows) == {"x": ["a\nb"], "2": ["c"], "": ["d"]}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.txt", b"\xff", "x.txt is not UTF-8 text"),
        ("x.csv", b"a", "x.csv is neither .txt"),
        ("x.jsonl", b'{"text": "a"}\n{', "x.jsonl, line 2 is not JSON"),
        ("x.jsonl", b'{"txt": "a"}', "x.jsonl, line 1 has no text"),
        ("x.jsonl", b'{"text": "a", "label": [1]}', "line 1 has a label that is neither"),
    ],
)
def test_files_that_cannot_be_read_name_the_line(name: str, content: bytes, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        parse_text_file(name, content)
    assert sentence in str(error.value)

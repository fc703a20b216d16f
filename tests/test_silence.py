"""Silent windows against the stored ones, and where documents lie."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_store import document_segments, silent_windows, window_pool
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.window_pool import PoolWindow, WindowPool
from tests.harvests import Rig


@pytest.fixture(scope="module")
def file(harvested: Path) -> HarvestFile:
    return HarvestFile(harvested)


@pytest.mark.parametrize("name", ["top", "abs", "relu"])
def test_a_window_is_silent_exactly_where_the_feature_has_no_activation(
    file: HarvestFile, name: str
) -> None:
    one, stored = window_pool.read_pool(file, name), file.silent_windows(name)
    for feature in range(0, one.d_sae, 7):
        found = silent_windows.find_silent_windows(one, feature, file.sequences, np.array([3]))
        got = {(c.sequence, c.start) for c in (*found.hard, *found.random)}
        assert got == {(w.sequence, w.start) for w in stored if feature not in w.features}
        assert all(c.value == 0 and c.positions == [] for c in found.hard)


def test_hard_windows_hold_a_token_of_the_peaks_and_show_it(file: HarvestFile) -> None:
    one = window_pool.read_pool(file, "top")
    tokens = np.unique(file.sequences.flat)[3:6]
    found = silent_windows.find_silent_windows(one, 0, file.sequences, tokens)
    assert found.hard and found.random
    for context in found.hard:
        assert file.sequences.tokens(context.sequence)[context.peak] in tokens
    for c in found.random:
        assert not np.isin(file.sequences.window(c.sequence, c.start, c.length), tokens).any()


def test_too_few_silent_windows_in_either_split_are_too_few(file: HarvestFile) -> None:
    windows = [
        PoolWindow(0, 8 * i, 8, "explain" if i % 2 else "score", 0, 8 * i)
        for i in range(2 * silent_windows.MIN_SILENT_WINDOWS)
    ]
    empty = np.array([], dtype=int)
    one = WindowPool(8 * len(windows), empty, empty, empty.astype(float), 1, windows)
    assert not silent_windows.find_silent_windows(
        one, 0, file.sequences, np.array([0])
    ).has_too_few()
    one = replace(one, token=np.array([8]), feature=np.array([0]), value=np.array([1.0]))
    assert silent_windows.find_silent_windows(one, 0, file.sequences, np.array([0])).has_too_few()


@pytest.mark.parametrize("pack", [False, True])
def test_segments_cover_every_sequence_once(
    rig: Rig, tmp_path: Path, file: HarvestFile, pack: bool
) -> None:
    """By sequence and by document they are the same; a context lies in its document's."""
    file = HarvestFile(rig.harvest(tmp_path, pack=True)) if pack else file
    by_sequence = [
        s
        for i in range(len(file.sequences))
        for s in document_segments.list_sequence_segments(file, i)
    ]
    by_document = [
        s
        for document in range(len(file.documents))
        for s in document_segments.list_document_segments(file, document)
    ]
    assert sorted(by_sequence) == sorted(by_document)
    assert len({s.document for s in by_sequence}) == file.record.documents
    ends = dict.fromkeys(range(len(file.sequences)), 0)
    for one in by_sequence:
        assert one.begin - ends[one.sequence] <= 1 and one.end > one.begin  # a BOS between
        ends[one.sequence] = one.end
    assert ends == {s: len(file.sequences.tokens(s)) for s in ends}
    for window in window_pool.read_pool(file, "top").windows:
        assert (
            document_segments.find_segment(file, window.sequence, window.start).document
            == window.document
        )


def test_an_unknown_sequence_is_a_sentence(file: HarvestFile) -> None:
    with pytest.raises(InputError, match="There is no sequence 100000: harvest"):
        document_segments.check_sequence(file, 100_000)

"""The order of the work leaves no trace: chunks, merges, shards, interruptions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.dictionaries.base import Triples
from backend.harvest import checkpoint, coactivation, context_reservoir, pair_counts
from backend.harvest.accumulator import Accumulator, AccumulatorShape
from backend.harvest.activation_runs import TokenRows
from backend.harvest.activation_sums import highest_histogram_octave
from backend.harvest.checkpoint import Checkpoint, Shard
from backend.harvest.coactivation import token_levels
from backend.harvest.harvest_plan import HarvestPlan
from backend.harvest.sampling_hashes import hash_ids
from backend.harvest.shard_run import ShardRun
from backend.harvest.stage_timings import StageTimings
from backend.harvest.window_grid import WindowGrid, draw_silent_windows
from tests.harvests import PLAN, Rig, advance, assert_same, content, published, small_steps

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def undisturbed(harvested: Path) -> dict[str, list[dict]]:
    return content(harvested)


@pytest.mark.parametrize(
    ("nonzero", "rows", "buffer", "block"),
    [(1, 1, 1, 16), (3000, 600, 300, 200), (1 << 30, 1 << 30, 1 << 30, 7)],
)
def test_chunks_and_merges_of_any_size_give_the_same_file(
    rig: Rig,
    undisturbed: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nonzero: int,
    rows: int,
    buffer: int,
    block: int,
) -> None:
    small_steps(monkeypatch, nonzero, rows)
    monkeypatch.setattr(context_reservoir, "MIN_BUFFER_ROWS", buffer)
    monkeypatch.setattr(context_reservoir, "MERGE_BLOCK_ROWS", block)
    monkeypatch.setattr(pair_counts, "FLUSH_KEYS", buffer)
    monkeypatch.setattr(ShardRun, "_due", lambda self: False)
    assert_same(content(rig.harvest(tmp_path)), undisturbed)


@pytest.mark.parametrize("count", [2, 5])
def test_shards_in_any_order_give_the_same_file(
    rig: Rig, undisturbed: dict, tmp_path: Path, count: int
) -> None:
    outcomes = []
    for index in reversed(range(count)):
        part = rig.start(tmp_path, shard=Shard(index, count))
        list(part.run())
        outcomes.append(part.outcome)
    assert outcomes == ["part"] * (count - 1) + ["published"]
    assert_same(content(published(part)), undisturbed)


def test_more_shards_than_batches_publish_all_the_same(rig: Rig, tmp_path: Path) -> None:
    for index in range(3):
        part = rig.start(tmp_path, shard=Shard(index, 3), forward_batch=100_000)
        list(part.run())
    assert part.outcome == "published"


def test_an_interrupted_harvest_goes_on_to_the_same_file(
    rig: Rig, undisturbed: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_steps(monkeypatch)
    stops, tries = iter([1, 4, 8, 13, 9, 7, 8, 5]), 0
    while not advance((one := rig.start(tmp_path)).run(), next(stops, 1000)):
        tries += 1
    assert tries == 8
    assert_same(content(published(one)), undisturbed)
    assert not (tmp_path / "work" / one.id).exists()


def test_a_resumed_harvest_does_not_begin_again(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_steps(monkeypatch, rows=1)
    advance(rig.start(tmp_path).run(), 12)
    steps = [s for s in rig.start(tmp_path).run() if s.stage == "harvest"]
    assert steps[0].done > steps[0].fresh > 0
    assert steps[-1].done == steps[-1].total > steps[-1].fresh


def test_other_shards_use_what_a_split_harvest_began(rig: Rig, undisturbed, tmp_path: Path) -> None:
    """Without --shard the harvest takes over all shards of a split that was begun."""
    list(rig.start(tmp_path, shard=Shard(1, 3)).run())
    whole = rig.start(tmp_path)
    list(whole.run())
    assert whole.outcome == "published"
    assert_same(content(published(whole)), undisturbed)


def test_a_finished_harvest_is_not_made_twice_unless_asked(rig: Rig, harvested: Path) -> None:
    store, before = harvested.parent.parent, harvested.stat().st_mtime_ns
    twice = rig.start(store)
    list(twice.run())
    assert (twice.outcome, twice.id) == ("already", harvested.stem)
    assert harvested.stat().st_mtime_ns == before
    assert not list((store / "work").iterdir())


def test_again_makes_a_second_file(
    rig: Rig, undisturbed: dict, harvested: Path, tmp_path: Path
) -> None:
    first = tmp_path / "harvests" / harvested.name
    first.parent.mkdir()
    first.write_bytes(harvested.read_bytes())  # a harvest from elsewhere, dropped in
    second = rig.harvest(tmp_path, again=True)
    assert second.stem == f"{first.stem}-2"
    found = content(second)
    found["harvest"][0]["id"] = first.stem
    assert_same(found, undisturbed)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"tokens": 500},
        {"top": 10},
        {"window": 16},
        {"pack": True},
        {"precision": "bf16"},
    ],
)
def test_another_configuration_is_another_harvest(
    rig: Rig, harvested: Path, tmp_path: Path, change: dict
) -> None:
    one = rig.start(tmp_path, **change)
    for step in one.run():
        if step.stage == "self-check":
            break
    assert one.id and one.id != harvested.stem


def made_up(
    n: int, signed: bool, every_pair: bool, seed: int = 0
) -> tuple[WindowGrid, Callable, AccumulatorShape]:
    """`n` rows in windows of four, and a function from sequences of rows to a chunk of them."""
    dice = np.random.default_rng(seed)
    window = np.arange(n) // 4
    every = np.arange(n // 4)
    windows = WindowGrid(
        width=4,
        sequence=every // 2,
        start=every // 2 * 8,
        length=np.full(n // 4, 4),
        document=dice.integers(0, n // 16, n // 4),
        split=dice.integers(0, 2, n // 4),
        stretch=np.full(n // 4, 4),
        first=np.arange(n // 4 + 1),
    )
    f = np.where(dice.random((n, 12)) < 0.3, dice.gamma(1, 1, (n, 12)).round(1), 0)  # with ties
    f = f * (dice.choice([-1, 1], f.shape) if signed else 1)

    pool = draw_silent_windows(windows, PLAN.silent, PLAN.seed)

    def chunk(blocks: np.ndarray) -> tuple[Triples, TokenRows]:
        """`blocks`: numbers of stretches of eight rows, two windows, which are one sequence."""
        at = (blocks[:, None] * 8 + np.arange(8)).reshape(-1)
        token, feature = f[at].nonzero()
        first = np.repeat(np.arange(len(at))[::4], 4)
        columns = [window[at], 0 * at, windows.split[window[at]], windows.document[window[at]]]
        columns += [at % 8, at % 5, first, first + 4, first, first + 4]
        ints = [torch.from_numpy(column.astype(np.int32)) for column in columns]
        ints[1] = hash_ids(ints[0], 0)
        marks = [token_levels(ints[1]), torch.from_numpy(at % 3 == 0)]
        marks.append(torch.from_numpy(np.isin(window[at], pool)))
        kinds = (np.int32, np.int32, np.float32)
        found = (token, feature, f[at][token, feature])
        triples = (torch.from_numpy(c.astype(k)) for c, k in zip(found, kinds, strict=True))
        return Triples(*triples), TokenRows(*ints, *marks)

    return (
        windows,
        chunk,
        AccumulatorShape(12, signed, highest_histogram_octave(8.0), every_pair, 0, 1.0),
    )


def state_after(
    folder: Path, signed: bool, every_pair: bool, parts: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """The merged state of an accumulator that was fed these parts in this order."""
    windows, chunk, shape = made_up(1600, signed, every_pair)
    folder.mkdir()
    accumulator = Accumulator(shape, PLAN, windows, folder / "spool", CPU)
    for part in parts:
        accumulator.update(*chunk(part), StageTimings())
    state = accumulator.state()
    accumulator.spool.close()
    return {k: v for k, v in state.items() if not k.endswith("offset") and "silent" not in k}


@pytest.mark.parametrize(("signed", "every_pair"), [(False, True), (True, False), (False, False)])
@pytest.mark.parametrize("seed", range(3))
def test_accumulators_fed_in_another_order_agree(
    tmp_path: Path, signed: bool, every_pair: bool, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coactivation, "MAX_SAMPLED_PAIRS", 60)  # of 66 pairs at each level
    blocks = np.arange(200)
    want = state_after(tmp_path / "a", signed, every_pair, [blocks])
    dice = np.random.default_rng(seed)
    monkeypatch.setattr(context_reservoir, "MIN_BUFFER_ROWS", int(dice.integers(1, 300)))
    monkeypatch.setattr(pair_counts, "FLUSH_KEYS", 100)
    monkeypatch.setattr(coactivation, "FLUSH_PAIRS", int(dice.integers(1, 300)))
    parts = np.array_split(dice.permutation(blocks), dice.integers(2, 40))
    got = state_after(tmp_path / "b", signed, every_pair, parts)
    assert want.keys() == got.keys()
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-12, err_msg=name)
        if values.dtype.kind != "f" or "top" in name or "range" in name:
            np.testing.assert_array_equal(got[name], values, err_msg=name)


@pytest.mark.parametrize("index", [-1, 3, 7])
def test_a_shard_that_is_none_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="^There is no shard .* of 3: write --shard I/N with I"):
        Shard(index, 3)


def test_shards_cover_all_batches_once() -> None:
    for count in range(1, 9):
        bounds = [Shard(i, count).bounds(17) for i in range(count)]
        assert [n for low, high in bounds for n in range(low, high)] == list(range(17))


def test_a_checkpoint_cut_short_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"d": {"count": np.arange(3)}}
    checkpoint.save_checkpoint(tmp_path, Checkpoint(1, 10, {"d": 0}, state))

    def dies(_: dict, path: Path, **__: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_checkpoint(tmp_path, Checkpoint(2, 20, {"d": 9}, state))
    kept = checkpoint.load_checkpoint(tmp_path)
    assert kept and (kept.next_batch, kept.tokens, kept.spooled) == (1, 10, {"d": 0})
    np.testing.assert_array_equal(kept.state["d"]["count"], np.arange(3))


def test_a_damaged_state_says_what_to_delete(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=f"harvest in {tmp_path} cannot be read .*Delete that"):
        checkpoint.load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("tokens", 0), ("context_size", 7), ("top", 3), ("ranged", 0), ("silent", 1)],
)
def test_a_plan_that_cannot_be_is_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field.replace("_", "-")):
        HarvestPlan(**{field: value})

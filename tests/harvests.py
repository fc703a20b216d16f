"""A tiny harvest: a random model, dictionaries of several kinds, a small corpus, a second or two.

As a script (`python -m tests.harvests FOLDER SEED KILLS`) it harvests in processes that it kills.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from torch import Tensor

from backend.dictionaries import load
from backend.dictionaries.base import Dictionary
from backend.harvest import shard_run
from backend.harvest.harvest_plan import HarvestPlan
from backend.harvest.run import HarvestRequest, HarvestRun
from backend.harvest.shard_run import HarvestProgress
from backend.model.device import Placement
from backend.model.language_model import LanguageModel
from feature_store.harvest_reader import connect_read_only
from tests.dictionaries import CPU, HOOK, sae_of, saved
from tests.models import WORDS, save, tiny, token_batch

WIDTH = 8
PLAN = HarvestPlan(
    tokens=100_000, context_size=32, forward_batch=200, top=8, ranged=12, silent=16, window=WIDTH
)
TABLES = [
    "harvest",
    "dictionary",
    "feature",
    "context",
    "document",
    "sequence",
    "silent_window",
    "token",
]
SUMS = ["mean_act", "std_act", "skew", "kurtosis", "mean_all", "top_token_share"]
"""Columns that come from sums of floats: equal to rounding, whatever the order of the sum."""
SIDES = ("positive", "negative")
SHAPE = [f"{side}{key}" for side in ("", "positive ", "negative ") for key in ("skew", "kurtosis")]


@dataclass(frozen=True)
class Rig:
    """What every tiny harvest is made of."""

    lm: LanguageModel
    found: list[Dictionary]
    folders: list[str]
    corpus: Path

    def request(self, store: Path, **changes: Any) -> HarvestRequest:
        plan = replace(PLAN, **{k: changes.pop(k) for k in list(changes) if hasattr(PLAN, k)})
        place = self.lm.placement
        given = {"corpora": [str(self.corpus)], "placement": place, "plan": plan, **changes}
        return HarvestRequest(model="tiny", dictionaries=self.folders, store=store, **given)

    def start(self, store: Path, **changes: Any) -> "Prepared":
        """A harvest that has not begun; `changes` are fields of the plan or of the request."""
        return Prepared(self.request(store, **changes), self)

    def harvest(self, store: Path, **changes: Any) -> Path:
        """The published file."""
        one = self.start(store, **changes)
        assert list(one.run())
        return published(one)


def harvest_on_disk(
    folder: Path,
    *,
    tokens: int = 2000,
    seed: int = 0,
    store: Path | None = None,
    **dictionaries: dict[str, Any],
) -> Path:
    """A store whose model and dictionaries lie on disk, for a server to load: NAME={"architecture":
    …, fields of its configuration}; a TopK SAE named resid, if none is given. The file's path.

    `seed` tells models apart; `store` is where it goes, if not FOLDER/store."""
    save(folder / "model", seed=seed)
    for name, given in (dictionaries or {"resid": {}}).items():
        fields = {"architecture": "topk", "d_in": 16, **given}
        saved(folder / name, fields.pop("architecture"), **fields)
    (folder / "text.txt").write_text("\n\n".join(texts(40)))
    request = HarvestRequest(
        model=str(folder / "model"),
        dictionaries=[f"{name}={folder / name}" for name in dictionaries or ["resid"]],
        corpora=[str(folder / "text.txt")],
        store=store or folder / "store",
        placement=CPU,
        plan=HarvestPlan(tokens=tokens, context_size=32, top=8, ranged=8, silent=8, window=8),
    )
    harvest = HarvestRun(request)
    assert list(harvest.run())
    return published(harvest)


class Prepared(HarvestRun):
    """A harvest whose model and dictionaries are loaded already."""

    def __init__(self, request: HarvestRequest, rig: Rig) -> None:
        super().__init__(request)
        self._rig = rig

    def _load(self) -> tuple[LanguageModel, list[Dictionary]]:
        return self._rig.lm, list(self._rig.found)


def make_rig(folder: Path, placement: Placement = CPU) -> Rig:
    """Dictionaries and corpus in `folder`; the same on every call."""
    corpus = folder / "text.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(110)))
    kinds = {
        "top": ("topk", 120),
        "abs": ("abstopk", 60),
        "relu": ("standard", 30),
        "seq": ("temporal", 64),
    }
    lm = tiny(placement=placement)
    paths = {name: folder / name for name in kinds}
    for name, (kind, d_sae) in kinds.items():
        sae = sae_of(kind, d_in=16, d_sae=d_sae)
        if name == "abs":  # centred, so that a feature's signs mix
            sae.b_dec.data, sae.b_enc.data = middle(lm).cpu(), sae.b_enc * 0.1
        sae.save_model(paths[name])
    found = [load(str(path), name=name, placement=placement) for name, path in paths.items()]
    return Rig(lm, found, [f"{name}={path}" for name, path in paths.items()], corpus)


def middle(lm: LanguageModel) -> Tensor:
    """The mean activation at the dictionaries' hook point, float32 [d_in]."""
    return lm.activations(token_batch(20, 24), [HOOK])[HOOK][:, 1:].mean(dim=(0, 1))


def texts(n: int, seed: int = 0) -> list[str]:
    """Random words: some texts longer than a sequence, some shorter than a window."""
    dice = random.Random(seed)
    found = [" ".join(dice.choices(WORDS, k=dice.choice([4, 9, 20, 33, 70]))) for _ in range(n)]
    found[3] += " </s> " + found[4]  # not counted, wherever it stands
    return found


def published(harvest: HarvestRun) -> Path:
    return harvest.request.store / "harvests" / f"{harvest.id}.duckdb"


def advance(steps: Iterable[HarvestProgress], n: int) -> bool:
    """Take `n` steps and let go in the middle; whether it was over before. The passes of a
    self-check count as one: there are as many as there are dictionaries and texts."""
    steps, stage = iter(steps), ""
    while n > 0:
        if (step := next(steps, None)) is None:
            return True
        n -= not step.stage == stage == "self-check"
        stage = step.stage
    steps.close()  # type: ignore[attr-defined]
    return False


def small_steps(patch: pytest.MonkeyPatch, nonzero: int = 3000, rows: int = 600) -> None:
    """Chunks of a few sequences, and a checkpoint after each."""
    patch.setattr(shard_run, "CHUNK_NONZERO", nonzero)
    patch.setattr(shard_run, "CHUNK_ROWS", rows)
    patch.setattr(shard_run, "CHECKPOINT_S", 0.0)
    patch.setattr(shard_run.ShardRun, "_due", lambda self: True)


def content(path: Path) -> dict[str, list[dict]]:
    """All rows of all tables in stored order, without the times of the clock."""
    with connect_read_only(path) as db:
        tables = {name: db.sql(f"SELECT * FROM {name}").to_arrow_table() for name in TABLES}
    found = {name: table.to_pylist() for name, table in tables.items()}
    for row in found["harvest"]:
        del row["started"], row["finished"]
    return found


def assert_same(one: dict[str, list[dict]], other: dict[str, list[dict]]) -> None:
    """Equal bit for bit, sums of floats to 1e-9, skew and kurtosis to what cancels in them."""
    for name in TABLES:
        assert len(one[name]) == len(other[name]), name
        for a, b in zip(one[name], other[name], strict=True):
            assert exact(a) == exact(b), name
            for key, value in sums(a).items():
                assert value == pytest.approx(sums(b)[key], rel=1e-5 if key in SHAPE else 1e-9), key


def exact(row: dict) -> dict:
    """The columns that do not depend on the order of a sum."""
    return {
        key: exact(value) if isinstance(value, dict) else value
        for key, value in row.items()
        if key not in SUMS
    }


def sums(row: dict) -> dict[str, float]:
    """The columns that do, those of its two sides too."""
    sides = {f"{side} {k}": v for side in SIDES for k, v in (row.get(side) or {}).items()}
    found = {k: v for k, v in (row | sides).items() if k.rpartition(" ")[2] in SUMS}
    return {k: -1.0 if v is None else v for k, v in found.items()}


def until_finished(folder: Path, seed: int, kills: int) -> list[str]:
    """Harvest into FOLDER/store in processes that are killed at random moments, `kills` of them.

    Where each one was killed. The model is made once, before the forks, to save its loading.
    """
    rig, dice, killed = make_rig(folder), random.Random(seed), []
    while True:
        steps, says = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(steps)
            report_steps(rig, folder / "store", says)
        os.close(says)
        last = "the beginning"
        with os.fdopen(steps) as lines:
            for step in lines:
                last = step.strip()
                if len(killed) < kills and dice.random() < 0.12:
                    time.sleep(dice.random() * 0.05)
                    os.kill(child, signal.SIGKILL)
                    break
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, last
            return killed
        killed.append(last)


def report_steps(rig: Rig, store: Path, out: int) -> NoReturn:
    """The body of a process that does nothing but harvest."""
    status = 1
    try:
        with pytest.MonkeyPatch.context() as patch, os.fdopen(out, "w", buffering=1) as lines:
            small_steps(patch)
            for step in rig.start(store).run():
                lines.write(f"{step.stage} {step.done}\n")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)  # a forked process must not run its parent's clean-up


if __name__ == "__main__":
    where, dice_seed, n_kills = sys.argv[1:]
    found = until_finished(Path(where), int(dice_seed), int(n_kills))
    sys.stdout.write(json.dumps(found))

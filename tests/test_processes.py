"""Several processes at once, and processes that die: what a store promises about both."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from feature_store.catalog import Catalog
from feature_store.errors import InputError
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.harvests import assert_same, content
from tests.stores import make_store

pytestmark = pytest.mark.process
EACH = 50

WRITER = f"""
import sys
from pathlib import Path
from feature_store.records import FeatureId
from feature_store.store import Store
store, name = Store(Path(sys.argv[1])), sys.argv[2]
for number in range({EACH}):
    store.catalog.annotate(FeatureId("resid", number % 40), "label", f"{{name}} {{number}}")
"""
INSIDE = """
import sys
from pathlib import Path
from feature_store.catalog import Catalog
from feature_store.records import FeatureId
catalog = Catalog(Path(sys.argv[1]))
catalog.writable = sys.argv[2] == "write"
if catalog.writable:
    catalog.annotate(FeatureId("resid", 0), "label", "first")
with catalog.read_transaction() as db:
    if catalog.writable:
        db.execute("UPDATE annotation SET value = 'kept'")
        db.commit()  # in the log now, and not yet in the file
        db.begin()
        db.execute("UPDATE annotation SET value = 'lost'")
    print("inside", flush=True)
    input()
"""
READER = """
import sys
from pathlib import Path
from feature_store.records import FeatureId
from feature_store.store import Store
store, most, reads = Store(Path(sys.argv[1])), 0, 0
while not Path(sys.argv[2]).exists():
    for index in range(5):
        feature = FeatureId("resid", index)
        assert len(store.find_harvest(feature).payload(feature).contexts) in (0, 60)
    seen = sum(len(store.catalog.history(FeatureId("resid", i))) for i in (0, 39))
    assert seen >= most, (seen, most)
    most, reads = seen, reads + 1
print(reads)
"""


def test_two_annotate_while_a_third_reads_and_nothing_is_lost(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    start = lambda code, *rest: subprocess.Popen(  # noqa: E731
        [sys.executable, "-c", code, str(store.path), *rest],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    done = tmp_path / "done"
    reader, writers = start(READER, str(done)), [start(WRITER, name) for name in ("ann", "bob")]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert (writer.returncode, errors) == (0, "")
    done.touch()
    reads, errors = reader.communicate(timeout=60)
    assert reader.returncode == 0, errors
    assert int(reads) > 0
    catalog = Catalog(store.path / "catalog.duckdb")
    said = [one.value for i in range(40) for one in catalog.history(FeatureId("resid", i))]
    assert sorted(said) == sorted(f"{name} {n}" for name in ("ann", "bob") for n in range(EACH))
    assert catalog.annotations("resid").num_rows == 40


def inside(catalog: Path, how: str) -> subprocess.Popen[str]:
    """A process that is in the middle of a transaction, to "write" or to "read"."""
    process = subprocess.Popen(
        [sys.executable, "-c", INSIDE, str(catalog), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "inside\n"
    return process


def test_who_is_killed_in_a_transaction_holds_nothing(tmp_path: Path) -> None:
    """What was committed stands, what was not never was."""
    catalog = Catalog(tmp_path / "catalog.duckdb", patience_s=0.1)
    with inside(catalog.path, "write") as process:
        assert (tmp_path / "catalog.duckdb.wal").stat().st_size
        with pytest.raises(InputError, match=f"locked by process {process.pid} "):
            catalog.annotate(FeatureId("resid", 1), "label", "mine")
        process.kill()
    catalog.annotate(FeatureId("resid", 1), "label", "mine")
    assert catalog.annotations("resid").column("value").to_pylist() == ["kept", "mine"]


def test_any_number_read_a_catalog_that_may_not_be_written(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.duckdb", patience_s=0.1)
    catalog.annotate(FeatureId("resid", 0), "label", "kept")
    catalog.writable = False
    with inside(catalog.path, "read") as process:
        assert catalog.annotations("resid").num_rows == 1
        process.communicate("\n")
    assert process.returncode == 0


def test_a_harvest_killed_again_and_again_ends_as_if_undisturbed(
    harvested: Path, tmp_path: Path
) -> None:
    """SIGKILL at up to seven random moments: reading, checking, harvesting, saving, writing."""
    command = [sys.executable, "-m", "tests.harvests", str(tmp_path), "5", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    killed = json.loads(done.stdout.splitlines()[-1])
    assert len(killed) >= 3  # a quick machine is done before the seventh
    store = Store(tmp_path / "store")
    (file,) = store.harvests()
    assert_same(content(file.path), content(harvested))
    assert not store.unfinished() and not store.problems()

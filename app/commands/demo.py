"""`saefari demo`: harvest the embedded demo model once, then open the pages."""

import hashlib
from pathlib import Path

import click

from app.commands import demo_labels
from app.commands.harvest import harvest
from app.commands.pages import pages
from backend.harvest.harvest_plan import HarvestPlan
from feature_store.atomic_file import write_file
from feature_store.store import Store
from feature_store.strict_json import JsonError, dump_json, parse_json

TOKENS = 300_000


def demo(store: Path, *, no_app: bool, host: str, port: int | None, no_browser: bool) -> None:
    """Open the demo; harvest it first unless the store has a harvest of the same weights."""
    if not harvested(store):
        run(store)
    if not no_app:
        demo_labels.start(store)
        click.echo("A job labels the features by patterns in the background: see the Jobs page.")
        pages(store, host=host, port=port, open_browser=not no_browser)


def run(store: Path) -> None:
    """Harvest all dictionaries of the demo model into the store."""
    from backend.demo import DICTIONARIES, MODEL

    plan = HarvestPlan(tokens=TOKENS)
    harvest(
        model=str(MODEL),
        dictionaries=tuple(str(folder) for folder in DICTIONARIES),
        corpora=("demo",),
        store=store,
        tokens=plan.tokens,
        context_size=plan.context_size,
        forward_batch=plan.forward_batch,
        seed=plan.seed,
        pack=plan.pack,
        text_column="text",
        bf16_encoding=False,
        device="cpu",
        dtype=None,
        shard=None,
        processes=1,
        again=False,
        trust_remote_code=False,
        as_json=False,
    )
    newest = Store(store).harvest()
    write_file(marker(store), dump_json({"harvest": newest.record.id, "weights": weights_hash()}))


def harvested(store: Path) -> bool:
    """Return whether the store holds a finished harvest of the weights that this version ships."""
    try:
        known = parse_json(marker(store).read_text())
    except (FileNotFoundError, JsonError):
        return False
    file = store / "harvests" / f"{known['harvest']}.duckdb"
    if known["weights"] != weights_hash() or not file.exists():
        return False
    click.echo(f"Reusing the demo harvest {known['harvest']} in {store}.")
    return True


def marker(store: Path) -> Path:
    """Return the path of the file that names the demo's harvest and the hash of its weights."""
    return store / "demo.json"


def weights_hash() -> str:
    """Return the SHA-256 of all files of the demo's model and dictionaries."""
    from backend.demo import WEIGHTS

    digest = hashlib.sha256()
    for path in sorted(WEIGHTS.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(WEIGHTS).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()

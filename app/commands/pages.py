"""`saefari app`: serve the pages of a store."""

from pathlib import Path

import click

from app.serve import serve


def pages(
    store: Path,
    *,
    host: str,
    port: int | None,
    open_browser: bool,
    allow_jobs: bool = False,
    allow_hosts: tuple[str, ...] = (),
    model_memory: int | None = None,
    dictionary_memory: int | None = None,
) -> None:
    """Serve the pages until Ctrl-C and print their URL; see `saefari app --help`."""

    def ready(url: str) -> None:
        click.echo(f"Saefari shows {store} at {url} (Ctrl-C to stop)")

    serve(
        store,
        host=host,
        port=port,
        open_browser=open_browser,
        ready=ready,
        allow_jobs=allow_jobs,
        allow_hosts=allow_hosts,
        model_memory=model_memory,
        dictionary_memory=dictionary_memory,
    )

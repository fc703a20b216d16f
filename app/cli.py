"""The command line `saefari`: one function for each command. `app.commands` holds the options and
the work; torch is imported only where a model runs."""

import sys
from pathlib import Path
from typing import Any

import click

from app.commands.ablate_options import ablate_options
from app.commands.circuit_options import circuit_options
from app.commands.clusters_options import clusters_options
from app.commands.export_options import export_options
from app.commands.harvest_options import harvest_options
from app.commands.judging_options import asking_of, explain_options, score_options
from app.commands.map_options import map_options
from app.commands.option_types import (
    NAME,
    STORE_FOLDER,
    FilledText,
    LocalPath,
    WholeNumber,
    quote_value,
)
from app.commands.options import (
    CONTEXTS,
    HARVEST,
    JSON,
    STORE,
    TEXT_COLUMN,
    memory_options,
    model_options,
)
from app.commands.steer_options import steer_options
from backend.prediction_clusters.cluster_plan import ClusterPlan
from feature_store.errors import InputError
from feature_store.feature_maps import FeatureMapPlan

PORT = click.option(
    "--port",
    type=WholeNumber(0, 65_535),
    help="Port to listen on (default: the first free port from 8501).",
)
BROWSER = click.option("--no-browser", is_flag=True, help="Do not open a browser.")
HOST = click.option(
    "--host",
    type=FilledText(253),
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="saefari", prog_name="saefari")
def saefari() -> None:
    """Harvest, browse, steer, ablate, trace and explain the features of sparse autoencoders."""


@saefari.command()
@click.option(
    "--store",
    type=STORE_FOLDER,
    default=Path(".demo"),
    show_default=True,
    help="Store to create or reuse.",
)
@click.option("--no-app", is_flag=True, help="Harvest only; do not open the pages.")
@HOST
@PORT
@BROWSER
def demo(**options: Any) -> None:
    """Harvest the embedded demo model once and open its pages."""
    from app.commands.demo import demo

    demo(**options)


@saefari.command()
@model_options
@harvest_options
@JSON
def harvest(**options: Any) -> None:
    """Harvest the features of a model's dictionaries over a corpus.

    One pass stores the statistics and the contexts of every feature.

    After Ctrl-C, the same command resumes the harvest.
    """
    from app.commands.harvest import harvest

    harvest(**options)


@saefari.command()
@STORE
@HOST
@PORT
@BROWSER
@click.option(
    "--allow-jobs",
    is_flag=True,
    help="Let pages start jobs even on an address that other people can reach.",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    type=NAME,
    help="Accept this host name from browsers, such as the name of a reverse proxy. Repeat for "
    "more.",
)
@memory_options
def app(store: Path, no_browser: bool, **options: Any) -> None:
    """Serve the pages of a store and open them in the browser."""
    from app.commands.pages import pages

    pages(store, open_browser=not no_browser, **options)


@saefari.command("list")
@STORE
@JSON
def list_(store: Path, as_json: bool) -> None:
    """List a store's harvests and their dictionaries."""
    from app.commands.listing import listing

    listing(store, as_json=as_json)


@saefari.command()
@STORE
@click.argument("feature", metavar="DICTIONARY/FEATURE", type=NAME)
@HARVEST
@click.option(
    "--contexts",
    type=CONTEXTS,
    default=10,
    show_default=True,
    help="Number of contexts to print from each stratum.",
)
@JSON
def show(**options: Any) -> None:
    """Print the facts, logits and contexts of a feature."""
    from app.commands.show import show

    show(**options)


@saefari.command()
@STORE
@click.argument("feature", metavar="DICTIONARY/FEATURE", type=NAME)
@click.option(
    "--contexts",
    type=CONTEXTS,
    default=10,
    show_default=True,
    help="Number of contexts in the prompt.",
)
def prompt(store: Path, feature: str, contexts: int) -> None:
    """Print a prompt that asks a language model to explain a feature.

    The prompt holds contexts of the explain split only; the score split stays unseen.
    """
    from app.commands.prompt import prompt

    prompt(store, feature, contexts)


@saefari.command()
@model_options
@click.option(
    "--corpus",
    "corpora",
    type=NAME,
    multiple=True,
    default=["stdlib"],
    show_default=True,
    help="Corpus to measure on, as for saefari harvest. Repeat for more.",
)
@TEXT_COLUMN
@JSON
def check(**options: Any) -> None:
    """Check whether a dictionary fits a model.

    Prints the model's loss, the explained variance, L0, the loss increase and the recovery.
    """
    from app.commands.check import check

    check(**options)


@saefari.command()
@model_options
@steer_options
@JSON
def steer(**options: Any) -> None:
    """Generate default and steered completions from one seed.

    The Steer page gives the same completions for the same request.
    """
    from app.commands.steer import steer

    steer(**options)


@saefari.command()
@model_options
@ablate_options
@JSON
def ablate(**options: Any) -> None:
    """Ablate parts of a model and measure the effect on an answer.

    Parts are features, heads, layers, error terms or whole dictionaries.
    """
    from app.commands.ablate import ablate

    ablate(**options)


@saefari.command()
@model_options
@circuit_options
@JSON
def circuit(**options: Any) -> None:
    """Find the circuit of a next token and measure its faithfulness.

    A circuit holds features, error terms and the edges between them.
    """
    from app.commands.circuit import circuit

    circuit(**options)


@saefari.command()
@STORE
@clusters_options
@JSON
def clusters(
    store: Path, harvest_id: str | None, dictionaries: tuple[str, ...], as_json: bool, **plan: Any
) -> None:
    """Cluster well-predicted next tokens by the features they need."""
    from app.commands.clusters import clusters

    asked = ClusterPlan(dictionaries, **plan)
    clusters(store, harvest_id=harvest_id, plan=asked, as_json=as_json)


@saefari.command("map")
@STORE
@map_options
def map_(store: Path, dictionary: str, harvest_id: str | None, again: bool, **numbers: Any) -> None:
    """Compute the map of a dictionary's features.

    UMAP lays out the decoder directions in the plane for the Map page.
    """
    from app.commands.map import map_

    map_(store, dictionary, harvest_id=harvest_id, plan=FeatureMapPlan(**numbers), again=again)


@saefari.command()
@STORE
@explain_options
@JSON
def explain(store: Path, dictionary: str, **options: Any) -> None:
    """Explain features from contexts of the explain split.

    After Ctrl-C, the same command resumes the job.
    """
    from app.commands.explain import explain

    explain(store, dictionary, asking=asking_of(options), **options)


@saefari.command()
@STORE
@score_options
@JSON
def score(store: Path, dictionary: str, **options: Any) -> None:
    """Score explanations, next to baseline labels.

    Scorers use contexts of the score split only.

    After Ctrl-C, the same command resumes the job.
    """
    from app.commands.score import score

    score(store, dictionary, asking=asking_of(options), **options)


@saefari.group(invoke_without_command=True)
@JSON
@click.pass_context
def servers(context: click.Context, as_json: bool) -> None:
    """List language-model servers; `servers check NAME` tests one."""
    if context.invoked_subcommand is None:
        from app.commands.servers import list_servers

        list_servers(as_json=as_json)


@servers.command("check")
@click.argument("name", metavar="NAME|URL", type=NAME)
@click.option("--model", type=NAME, default="", help="Language model, by the server's name for it.")
@JSON
def servers_check(name: str, model: str, as_json: bool) -> None:
    """Test a server with two questions.

    Prints its capabilities, and the time and cost of a job over 100 features.
    """
    from app.commands.servers import check

    check(name, model=model, as_json=as_json)


@saefari.group(hidden=True)
def job() -> None:
    """Run a job; the pages call this command."""


@job.command("run")
@click.argument("store", type=LocalPath())
@click.argument("job_id", metavar="ID", type=NAME)
def job_run(store: Path, job_id: str) -> None:
    """Run a job in this process."""
    from app.commands.job import run

    run(store, job_id)


@saefari.command()
@STORE
@export_options
def export(**options: Any) -> None:
    """Export labels, lists, explanations or dashboards to files."""
    from app.commands.exchange import export

    export(**options)


@saefari.command("import")
@STORE
@click.argument("path", metavar="FILE", type=LocalPath())
@click.option(
    "--dictionary",
    "words",
    metavar="[SOURCE=]NAME",
    type=NAME,
    multiple=True,
    help="Dictionary that a Neuronpedia or delphi source belongs to. Repeat for more.",
)
@JSON
def import_(**options: Any) -> None:
    """Import labels, lists, explanations or circuit graphs.

    Reads files of Saefari, Neuronpedia and delphi, and graph files of circuit-tracer.

    If anything in the file is wrong, the error names it and nothing is imported.
    """
    from app.commands.exchange import import_

    import_(**options)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    The status is 0, or 2 for an error that the user can fix (a wrong option, or a file or folder
    that the system refuses), reported in one sentence on stderr.
    """
    try:
        saefari.main(args=arguments, prog_name="saefari", standalone_mode=False)
    except InputError as error:
        print(f"saefari: {error}", file=sys.stderr)
        return 2
    except click.ClickException as error:
        print(f"saefari: {one_sentence(error)}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        print("saefari: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.strerror is None:
            raise
        where = f" {quote_value(error.filename)}" if error.filename else ""
        print(f"saefari: The system refuses{where}: {error.strerror.lower()}.", file=sys.stderr)
        return 2
    return 0


def one_sentence(error: click.ClickException) -> str:
    """Return click's message about a wrong command line, and the command that lists the options."""
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".")
    return f"{message}. See: {context.command_path} --help" if context else f"{message}."


if __name__ == "__main__":
    sys.exit(main())

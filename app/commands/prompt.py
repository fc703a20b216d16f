"""`saefari prompt`: print the prompt that asks a language model to explain a feature."""

from pathlib import Path

import click

from autointerp.explanation_prompt import make_explanation_prompt
from feature_store.records import FeatureId
from feature_store.store import Store


def prompt(store: Path, feature: str, contexts: int) -> None:
    """Print the explanation prompt of a feature; see `saefari prompt --help`."""
    wanted = FeatureId.parse(feature)
    file = Store(store).find_harvest(wanted)
    payload = file.payload(wanted)
    promoted = [file.vocabulary.text(token) for token in payload.facts.promoted_tokens or []]
    click.echo(make_explanation_prompt(payload, promoted, contexts))

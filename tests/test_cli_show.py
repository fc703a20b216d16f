"""A feature in the terminal: one line a context, the strong tokens seen at a glance."""

from pathlib import Path

import pytest

from app.commands.show import heat, line, visible
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from tests.stores import make_store


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" the cat", " the cat"),
        ("one\ntwo\tthree", "one↵two→three"),
        ("\x1b[31mred\r", "\\x1b[31mred\\x0d"),  # no corpus steers a terminal
        ("é € 猫", "é € 猫"),
        ("a\u200bb\u2028c", "a\\x200bb\\x2028c"),
    ],
)
def test_text_stays_on_its_line_and_steers_no_terminal(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_stronger_tokens_stand_out_and_signs_differ() -> None:
    assert heat(0.0, 4.0) == ""
    weak, strong = heat(1.9, 4.0), heat(2.0, 4.0)
    assert weak and strong.startswith("bold") and weak in strong
    assert heat(-2.0, 4.0) != strong and heat(-2.0, 4.0).startswith("bold")
    assert heat(-1.0, 4.0) not in ("", weak)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> HarvestFile:
    return make_store(tmp_path_factory.mktemp("show") / "store").harvest()


def test_a_contexts_line_has_its_text_and_heat_on_its_tokens(file: HarvestFile) -> None:
    """Every hot stretch is the text of a token with an activation, the peak's boldest."""
    for context in file.contexts(FeatureId("abs", 3)):
        text = line(context, file, 8.0)
        assert "\n" not in text.plain and context.split in text.plain
        begin, ids = file.tokens_around(context, 12, 12)
        pieces = [visible(piece) for piece in file.vocabulary.display(ids)]
        assert text.plain.endswith("".join(pieces))
        hot = [text.plain[span.start : span.end] for span in text.spans]
        near = [p - begin for p in context.positions if 0 <= p - begin < len(pieces)]
        assert hot == [pieces[i] for i in near if pieces[i]]


def test_a_line_is_markup_free(file: HarvestFile, tmp_path: Path) -> None:
    """Brackets in a corpus are text, not rich's markup."""
    from rich.console import Console

    context = file.contexts(FeatureId("resid", 3))[0]
    text = line(context, file, 8.0)
    text.append("[bold red]not a style[/]")
    with (tmp_path / "out").open("w") as out:
        Console(file=out, width=10_000, soft_wrap=True).print(text)
    assert (tmp_path / "out").read_text().rstrip("\n") == text.plain

"""Names and docstrings stay readable: the figures of tests/house_figures.py never rise."""

import pytest

from tests import house_figures
from tests.house_figures import list_findings, measure_figures, read_kept, refused_in_text


def test_no_figure_is_worse_than_the_kept_one() -> None:
    """Each figure is at most the value in tests/house_figures.json, and every figure has one."""
    findings = list_findings()
    kept, today = read_kept(), measure_figures(findings)
    assert today.keys() == kept.keys()
    worse = {name: (value, kept[name]) for name, value in today.items() if value > kept[name]}
    assert worse == {}, {name: findings.get(name, [])[:20] for name in worse}


def test_every_figure_counts_what_it_names(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package written to be bad has one finding, or more, of each kind."""
    package = tmp_path / "backend"
    package.mkdir()
    (package / "asked.py").write_text(
        f'"""Words."""\n\n\ndef draw():  # fmt: {"skip"}\n    """So many."""\n\n\n'
        'class Kept:\n    """Kept."""\n',
        "utf-8",
    )
    (package / "finding.py").write_text("class Kept:\n    pass\n", "utf-8")
    monkeypatch.setattr(house_figures, "ROOT", tmp_path)
    monkeypatch.setattr(house_figures, "refused_words", lambda: ("so many",))
    house_figures.parse_file.cache_clear()
    assert house_figures.one_word_share("backend") == 100
    assert house_figures.repeated_classes("backend") == ["Kept"]
    assert house_figures.unclear_stems("backend") == ["backend/asked.py", "backend/finding.py"]
    assert len(house_figures.short_docstrings("backend")) == 3
    assert house_figures.formatting_exceptions() == ["backend/asked.py"]
    assert house_figures.refused_in_package("backend") == ["backend/asked.py:5: so many"]
    house_figures.parse_file.cache_clear()


@pytest.mark.parametrize("word", house_figures.refused_words())
def test_each_refused_word_is_found(word: str) -> None:
    """In any case and across a line break, and not inside a longer word."""
    found = " ".join(word.split())
    assert refused_in_text(f"Give {word.upper()} of it.") == [found]
    assert refused_in_text("x " + word.replace(" ", "\n    ") + " y") == [found]
    assert refused_in_text(f"x{word}y") == []

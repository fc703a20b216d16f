"""Figures: bars stand where their bins are. And words and colours that pages rest on."""

import math

import numpy as np
import pytest

from app import charts
from app.bars import histogram, linear_counts, log_counts
from app.theme import PALETTES, blend
from app.wording import THIN, count, measure, plural, share, signed
from feature_store.activation_histogram import bin_edge, bin_number

COUNTS = [3, 0, 7, 1]


def test_a_bar_spans_its_bin_and_empty_bins_draw_nothing() -> None:
    start = bin_number(2.0)
    data = histogram((start, COUNTS), None)
    edges = [math.log10(bin_edge(start + i)) for i in range(5)]
    places = [(edge - edges[0]) / (edges[4] - edges[0]) for edge in edges]
    spans = [(bar["left"], bar["left"] + bar["width"]) for bar in data["bars"]]
    assert [bar["count"] for bar in data["bars"]] == [3, 7, 1]
    for span, expected in zip(spans, [places[:2], places[2:4], places[3:]], strict=True):
        assert span == pytest.approx(expected)
    assert data["ticks"][0] == {"at": pytest.approx(0), "text": "2"}


def test_a_negative_side_is_the_mirror_image() -> None:
    """Equal counts on both sides make a symmetric figure, ticks included."""
    side = (bin_number(0.5), COUNTS)
    data = histogram(side, side)
    middles = [bar["left"] + bar["width"] / 2 for bar in data["bars"]]
    assert sorted(middles) == pytest.approx(sorted(1 - x for x in middles))
    places = sorted(tick["at"] for tick in data["ticks"])
    assert places == pytest.approx(sorted(1 - place for place in places))
    assert [bar["sign"] for bar in data["bars"]] == [-1, -1, -1, 1, 1, 1]


def test_a_tested_text_is_marked_where_its_activation_is() -> None:
    start = bin_number(1.0)
    end = bin_edge(start + len(COUNTS))
    assert histogram((start, COUNTS), None, end**0.5)["marker"] == pytest.approx(0.5)
    assert histogram((start, COUNTS), None, 100 * end)["marker"] == 1.0
    assert histogram((start, COUNTS), None, 0.0)["marker"] is None
    assert histogram(None, None, 3.0)["bars"] == []


@pytest.mark.parametrize("most", [1, 3, 9, 40, 99, 100, 1234, 5_000_000])
def test_axes_of_counts_have_a_few_ticks_up_to_the_most(most: int) -> None:
    linear = [tick.at for tick in linear_counts(most)]
    assert linear[0] == 0 and 2 <= len(linear) <= 6 and 2 * linear[-1] >= most >= linear[-1]
    logs = [tick.at for tick in log_counts(most)]
    assert logs[0] == 1 and all(tick <= most for tick in logs) and 10 * logs[-1] > most


def test_effects_count_every_token_and_mark_the_ends() -> None:
    values = np.concatenate([np.linspace(-1, 1, 500), [3.0]])
    bars, ends = charts.effects(values, [(3.0, "dog")], PALETTES["light"]).data
    assert np.nansum(bars.y) == 501 and list(ends.x) == [3.0]
    assert ends.hovertext[0] == "dog +3.0"


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb as WCAG 2 defines it, 0 to 1."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours as WCAG 2 defines it, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("kind", PALETTES)
@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_text_stays_readable_on_every_heat(kind: str, alpha: float) -> None:
    """4.5 : 1 at least (WCAG 2 AA), for tokens at any activation and for every quiet word."""
    colours = PALETTES[kind]
    for heat in (colours.positive, colours.negative):
        assert contrast(colours.text, blend(heat, colours.background, alpha)) >= 4.5
    for word in (colours.muted, colours.amber, colours.accent):
        assert min(contrast(word, colours.background), contrast(word, colours.raised)) >= 4.5
    assert contrast(colours.on_accent, colours.accent) >= 4.5


def test_numbers_have_no_more_digits_than_they_deserve() -> None:
    assert count(1234567) == f"1{THIN}234{THIN}567"
    assert [measure(x) for x in (6.3149, 0.0312, 1234.5, 0.0, -2.0, None)] == [
        "6.31",
        "0.0312",
        f"1{THIN}234",
        "0",
        "−2.00",
        "–",
    ]
    assert measure(9.999) == "10.0"
    assert share(0.0021) == f"0.21{THIN}%"
    assert [signed(0.4), signed(-0.4), signed(0.0)] == ["+0.40", "−0.40", "0"]
    assert [plural(1, "token"), plural(2, "dictionary")] == ["1 token", "2 dictionaries"]

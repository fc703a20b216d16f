"""Figures: bars stand where their bins are. And words and colours that pages rest on."""

import math

import pytest

from app.charts import histogram
from app.theme import PALETTES, blend, contrast
from app.wording import THIN, count, measure, plural, share, signed
from feature_store.histogram import bin_edge, bin_of

COUNTS = [3, 0, 7, 1]


def test_a_bar_spans_its_bin_and_empty_bins_draw_nothing() -> None:
    start = bin_of(2.0)
    (bars,) = histogram((start, COUNTS), None, PALETTES["light"], log_counts=False).data
    assert list(bars.y) == [3, 7, 1]
    low = [10 ** (x - w / 2) for x, w in zip(bars.x, bars.width, strict=True)]
    assert low == pytest.approx([bin_edge(start), bin_edge(start + 2), bin_edge(start + 3)])


def test_a_negative_side_is_the_mirror_image() -> None:
    """Equal counts on both sides make a symmetric figure, ticks included."""
    side = (bin_of(0.5), COUNTS)
    figure = histogram(side, side, PALETTES["dark"], log_counts=True)
    minus, plus = figure.data
    assert list(minus.x) == pytest.approx([-x for x in plus.x])
    assert sorted(figure.layout.xaxis.tickvals) == pytest.approx(
        sorted(-x for x in figure.layout.xaxis.tickvals)
    )


def test_log_counts_show_a_single_token() -> None:
    figure = histogram((bin_of(1.0), [1]), None, PALETTES["light"], log_counts=True)
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.yaxis.range[0] < math.log10(1)


@pytest.mark.parametrize("kind", PALETTES)
@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_text_stays_readable_on_every_heat(kind: str, alpha: float) -> None:
    """4.5 : 1 at least (WCAG 2 AA), for tokens at any activation and for every quiet word."""
    colours = PALETTES[kind]
    for heat in (colours.positive, colours.negative):
        assert contrast(colours.text, blend(heat, colours.background, alpha)) >= 4.5
    for word in (colours.muted, colours.amber, colours.accent):
        assert min(contrast(word, colours.background), contrast(word, colours.raised)) >= 4.5


def test_numbers_have_no_more_digits_than_they_deserve() -> None:
    assert count(1234567) == f"1{THIN}234{THIN}567"
    assert [measure(x) for x in (6.3149, 0.0312, 1234.5, 0.0, -2.0, None)] == [
        "6.31", "0.0312", f"1{THIN}234", "0", "−2.00", "–",
    ]  # fmt: skip
    assert measure(9.999) == "10.0"
    assert share(0.0021) == f"0.21{THIN}%"
    assert [signed(0.4), signed(-0.4), signed(0.0)] == ["+0.40", "−0.40", "0"]
    assert [plural(1, "token"), plural(2, "dictionary")] == ["1 token", "2 dictionaries"]

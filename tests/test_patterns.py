"""Pattern labels: sentences that are read back as written, and a judge that has only the label."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.baseline_labels import CONSTANT_LABEL
from autointerp.patterns import (
    PatternRule,
    TokenPattern,
    firing_probability,
    parse_rule,
    render_rule,
    token_firing_probabilities,
)
from autointerp.patterns.pattern_judge import UNKNOWN_PROBABILITY, UNMATCHED_PROBABILITY, WORD_RATE
from autointerp.patterns.token_patterns import ADVERB_RATES
from autointerp.patterns.token_shapes import TOKEN_SHAPES
from autointerp.text_windows import TextWindow

TEXT = st.text(min_size=0, max_size=8) | st.sampled_from(
    [
        "”",
        "“",
        "\\",
        "\\”",
        "\n",
        "a”, “b",
        "” likelier",
        "; on ",
        "\\n",
        "\\u{41}",
        "\u2028",
        "\ud800",
    ]
)
PATTERN = st.builds(
    TokenPattern,
    st.just("shape"),
    st.sampled_from(list(TOKEN_SHAPES)),
    st.none() | TEXT,
    st.sampled_from(list(ADVERB_RATES)),
) | st.builds(
    TokenPattern,
    st.sampled_from(["token", "beginning"]),
    TEXT,
    st.none() | TEXT,
    st.sampled_from(list(ADVERB_RATES)),
)
RULES = st.builds(
    PatternRule, st.lists(PATTERN, max_size=5).map(tuple), st.lists(TEXT, max_size=3).map(tuple)
).filter(lambda rule: rule != PatternRule())


def window(*tokens: str) -> TextWindow:
    """A window of these tokens, whatever a feature does in it."""
    n = len(tokens)
    return TextWindow(tuple(range(n)), tokens, (0.0,) * n, -1, 0, "score", "random")


@given(RULES)
def test_a_sentence_is_read_back_as_it_was_written(rule: PatternRule) -> None:
    """Whatever stands within the quotation marks."""
    assert parse_rule(render_rule(rule)) == rule
    assert "\n" not in render_rule(rule)


def test_a_rule_as_a_person_reads_it() -> None:
    """The adverb before the verb, patterns between commas, what it promotes at the end."""
    rule = PatternRule(
        (
            TokenPattern("token", "park", "the"),
            TokenPattern("beginning", "gard"),
            TokenPattern("shape", "numbers", None, "sometimes"),
        ),
        ("when", "if"),
    )
    assert render_rule(rule) == (
        "fires on “park” after “the”, words beginning with “gard”; sometimes on numbers; "
        "makes “when”, “if” likelier"
    )
    assert parse_rule("Fires on “park”.") == PatternRule((TokenPattern("token", "park"),))
    assert render_rule(PatternRule(rule.patterns[2:])) == "sometimes fires on numbers"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fires",
        "fires on",
        "fires on park",
        "fires on “a” and “b”",
        "fires on “a”,",
        "fires on “a”; makes “b”",
        "; makes “b” likelier",
        "makes  “b” likelier",
        "fires on “a” on “b”",
        "makes “b” after “c” likelier",
        "makes “b”, “c” likelier; on “a”",
    ],
)
def test_no_other_text_is_a_sentence(text: str) -> None:
    """What was not written by `render` is not read as if it had been."""
    assert parse_rule(text) is None


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("fires on “park”", [0.9, 0, 0, 0.9, 0, 0, 0]),  # with or without the blank before it
        ("fires on “park” after “the”", [0, 0, 0, 0.9, 0, 0, 0]),
        ("fires on “park”; rarely on “park” after “the”", [0.9, 0, 0, 0.9, 0, 0, 0]),
        ("often fires on words beginning with “spa”", [0] * 7),  # the token is “sp”
        ("often fires on words beginning with “p”", [0.5, 0, 0, 0.5, 0, 0, 0]),
        ("usually fires on anything after “the”", [0, 0, 0, 0.7, 0, 0, 0]),
        ("fires on “spark”", [0, 0, 0, 0, 0, 0.9, 0]),  # two tokens: the last
        ("fires on “arks”", [0] * 7),
        ("fires on “7” after “spark”", [0, 0, 0, 0, 0, 0, 0.9]),
        ("fires on “in the park”", [0, 0, 0, 0.9, 0, 0, 0]),
        ("fires on numbers, parts of words", [0, 0, 0, 0, 0, 0.9, 0.9]),
        ("fires on “Park”", [0] * 7),
    ],
)
def test_where_a_sentence_says_that_it_fires(label: str, expected: list[float]) -> None:
    """Worked out by hand; the highest rate of a token counts."""
    tokens = ["park", " in", " the", " park", " sp", "ark", " 7"]
    assert token_firing_probabilities(label, tokens) == expected


def test_several_tokens_are_a_whole_word() -> None:
    """Neither the begin nor the end of a longer one."""
    tokens = [" sp", "ar", "k", " sp", "ar", "."]
    assert token_firing_probabilities("fires on “spar”", tokens) == [0, 0, 0, 0, 0.9, 0]
    assert token_firing_probabilities("fires on “ark”", tokens) == [0] * 6


def test_a_window_fires_unless_every_token_stays_silent() -> None:
    """1 − (1 − FLOOR) · Π (1 − rate)."""
    label = "fires on “a”; often on “b”"
    assert firing_probability(label, window("c")) == pytest.approx(UNMATCHED_PROBABILITY)
    assert firing_probability(label, window("b")) == pytest.approx(
        1 - (1 - UNMATCHED_PROBABILITY) * 0.5
    )
    assert firing_probability(label, window("b", "a", "b")) == pytest.approx(
        1 - (1 - UNMATCHED_PROBABILITY) * 0.5 * 0.5 * 0.1
    )


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4), RULES)
def test_the_judge_does_not_see_the_feature(activations: list[float], rule: PatternRule) -> None:
    """Its answer is the same whatever the feature does, wherever the window is from."""
    plain = window("a", "b", " c", "1")
    other = replace(plain, activations=tuple(activations), peak=2, kind="top", document=9)
    assert firing_probability(render_rule(rule), plain) == firing_probability(
        render_rule(rule), other
    )


@pytest.mark.parametrize(
    "label", [CONSTANT_LABEL, "", "…", "Various unrelated words.", "makes “b” likelier"]
)
def test_a_label_that_says_nothing_has_one_answer(label: str) -> None:
    """So its accuracy is chance, whatever it is asked."""
    assert {firing_probability(label, window(*text)) for text in ("a", "ab", "b", "xyz")} == {
        UNKNOWN_PROBABILITY
    }
    assert token_firing_probabilities(label, ["a", "b"]) == [UNKNOWN_PROBABILITY] * 2


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Parking in gardens", [WORD_RATE, 0, 0, WORD_RATE, 0]),
        ("words about GARDENS", [0, 0, 0, WORD_RATE, 0]),
        ("the", [0, WORD_RATE, 0, 0, 0]),
        ("happiness", [0] * 5),
        ('The word "parked"', [0.7, 0, 0, 0, 0]),
        ("`the`, in prose", [0, 0.7, 0, 0, 0]),
        ("“den” after “gar”; “the” before “park”", [0, 0.7, 0, 0.7, 0]),
        ("what follows “the”", [0, 0, 0.7, 0, 0]),
        ("“the”, and promotes “gar”", [0, 0.7, 0, 0, 0]),
        ("tokens starting with “park”", [0.7, 0, 0, 0, 0]),
        ("don't", [0] * 5),
    ],
)
def test_labels_in_other_words(label: str, expected: list[float]) -> None:
    """Quoted texts with what stands before them; without any, words in any simple inflection."""
    assert token_firing_probabilities(label, ["parked", " the", " gar", "den", "."]) == expected


@given(st.text(max_size=60), st.lists(st.text(max_size=5), max_size=8))
def test_every_label_is_judged(label: str, tokens: list[str]) -> None:
    """Nobody's text makes the judge fail or leave its range."""
    found = token_firing_probabilities(label, tokens)
    assert len(found) == len(tokens)
    assert all(0 <= p <= 1 for p in found)
    assert 0 <= firing_probability(label, window(*tokens)) <= 1

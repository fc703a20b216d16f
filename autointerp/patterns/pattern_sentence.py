"""A rule as a sentence, and the sentence as a rule: `parse(render(rule)) == rule`.

    fires on “park” after “the”, “garden”; usually on numbers; makes “when” likelier

Clauses stand between semicolons, patterns between commas, texts between “ and ” with backslashes
before what could be mistaken. `parse` takes nothing else, but for a capital at the begin and a
full stop at the end.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

from autointerp.patterns.records import ADVERB_RATES, PatternKind, PatternRule, TokenPattern
from autointerp.patterns.token_shapes import TOKEN_SHAPES

CHAR_ESCAPES = {"\n": "n", "\t": "t", "\r": "r", "\\": "\\", "”": "”"}
ESCAPED_CHARS = {letter: char for char, letter in CHAR_ESCAPES.items()}
QUOTE_PATTERN = r"“(?:[^”\\]|\\.)*”"
BEGINNING_WORDS = "words beginning with "
ITEM_PATTERN = re.compile(
    rf"(?:(?P<token>{QUOTE_PATTERN})|{BEGINNING_WORDS}(?P<beginning>{QUOTE_PATTERN})|(?P<shape>{'|'.join(TOKEN_SHAPES)}))"
    rf"(?: after (?P<after>{QUOTE_PATTERN}))?",
    re.DOTALL,
)
ADVERBS = "|".join(word for word in ADVERB_RATES if word)
FIRST_CLAUSE = re.compile(rf"(?:(?P<often>{ADVERBS}) )?fires on ")
LATER_CLAUSE = re.compile(rf"; (?:(?P<often>{ADVERBS}) )?on ")
PROMOTED_CLAUSE = re.compile(r"(?:; )?makes (?=“)")
QUOTED_TEXT = re.compile(QUOTE_PATTERN, re.DOTALL)


def quote_text(text: str) -> str:
    """A text between quotation marks, on one line, in a form that can be read back."""
    return "“" + "".join(escape_char(c) for c in text) + "”"


def escape_char(char: str) -> str:
    """One character within quotation marks."""
    if char in CHAR_ESCAPES:
        return "\\" + CHAR_ESCAPES[char]
    if char.isprintable():
        return char
    return f"\\u{{{ord(char):x}}}"


def unquote_text(text: str) -> str:
    """What stands between the marks; a backslash before anything unknown is itself."""
    return re.sub(r"\\(?:u\{([0-9a-f]{1,6})\}|(.))", unescape_match, text[1:-1], flags=re.DOTALL)


def unescape_match(found: re.Match[str]) -> str:
    """The character that an escape stands for."""
    if found[1] is not None:
        code = int(found[1], 16)
        return chr(code) if code <= 0x10FFFF else found[0]
    return ESCAPED_CHARS.get(found[2], found[0])


def render_rule(rule: PatternRule) -> str:
    """The sentence, empty for an empty rule."""
    clauses = []
    for often, group in groupby(rule.patterns, key=lambda p: p.often):
        verb = "on" if clauses else "fires on"
        clauses.append(f"{often} {verb} {join_items(map(render_pattern, group))}".lstrip())
    if rule.promoted:
        clauses.append(f"makes {join_items(map(quote_text, rule.promoted))} likelier")
    return "; ".join(clauses)


def join_items(parts: Iterable[str]) -> str:
    """Between commas: an `and` would leave open what belongs together."""
    return ", ".join(parts)


def render_pattern(pattern: TokenPattern) -> str:
    """One pattern in words."""
    words = {
        "token": quote_text(pattern.target),
        "beginning": BEGINNING_WORDS + quote_text(pattern.target),
    }
    after = "" if pattern.after is None else f" after {quote_text(pattern.after)}"
    return words.get(pattern.kind, pattern.target) + after


@lru_cache(maxsize=4096)
def parse_rule(text: str) -> PatternRule | None:
    """The rule that a sentence of `render` says; None for any other text."""
    text = text.strip().removesuffix(".")
    text = text[:1].lower() + text[1:]
    patterns, at, opening = [], 0, FIRST_CLAUSE
    while clause := opening.match(text, at):
        found, at = match_list(ITEM_PATTERN, text, clause.end())
        patterns += [pattern_from_match(one, clause["often"] or "") for one in found]
        opening = LATER_CLAUSE
    promoted = ()
    if (makes := PROMOTED_CLAUSE.match(text, at)) and (makes[0][0] == ";") == bool(patterns):
        found, at = match_list(QUOTED_TEXT, text, makes.end())
        promoted = tuple(unquote_text(one[0]) for one in found)
        at = at + len(" likelier") if text.startswith(" likelier", at) else 0
    return PatternRule(tuple(patterns), promoted) if at == len(text) and text else None


def match_list(one: re.Pattern[str], text: str, at: int) -> tuple[list[re.Match[str]], int]:
    """Matches with commas between them, and where they end."""
    found = []
    while match := one.match(text, at):
        found.append(match)
        at = match.end()
        if not text.startswith(", ", at):
            break
        at += 2
    return found, at


def pattern_from_match(found: re.Match[str], often: str) -> TokenPattern:
    """An item as data."""
    after = unquote_text(found["after"]) if found["after"] else None
    quoted: tuple[PatternKind, ...] = ("token", "beginning")
    for kind in quoted:
        if found[kind]:
            return TokenPattern(kind, unquote_text(found[kind]), after, often)
    return TokenPattern("shape", found["shape"], after, often)

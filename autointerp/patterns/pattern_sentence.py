"""Pattern sentences: writes a pattern rule as a sentence and parses the sentence again, with
`parse_rule(render_rule(rule)) == rule`.

    fires on “park” after “the”, “garden”; usually on numbers; makes “when” likelier

Semicolons separate clauses, commas separate patterns; texts stand between “ and ” with backslash
escapes. `parse_rule` accepts nothing else, except a capital letter at the beginning and a full stop
at the end.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

from autointerp.patterns.token_patterns import ADVERB_RATES, PatternKind, PatternRule, TokenPattern
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
    """Return a text between quotation marks, on one line, escaped so that a pattern sentence can be
    parsed again."""
    return "“" + "".join(escape_char(c) for c in text) + "”"


def escape_char(char: str) -> str:
    """Return one character as written within the quotation marks of a pattern sentence."""
    if char in CHAR_ESCAPES:
        return "\\" + CHAR_ESCAPES[char]
    if char.isprintable():
        return char
    return f"\\u{{{ord(char):x}}}"


def unquote_text(text: str) -> str:
    """Return the text between the quotation marks of a pattern sentence; an unknown escape stands
    for itself."""
    return re.sub(r"\\(?:u\{([0-9a-f]{1,6})\}|(.))", unescape_match, text[1:-1], flags=re.DOTALL)


def unescape_match(found: re.Match[str]) -> str:
    """Return the character that an escape in a pattern sentence stands for."""
    if found[1] is not None:
        code = int(found[1], 16)
        return chr(code) if code <= 0x10FFFF else found[0]
    return ESCAPED_CHARS.get(found[2], found[0])


def render_rule(rule: PatternRule) -> str:
    """Return the pattern sentence of a rule; an empty text for an empty rule."""
    clauses = []
    for often, group in groupby(rule.patterns, key=lambda p: p.often):
        verb = "on" if clauses else "fires on"
        clauses.append(f"{often} {verb} {join_items(map(render_pattern, group))}".lstrip())
    if rule.promoted:
        clauses.append(f"makes {join_items(map(quote_text, rule.promoted))} likelier")
    return "; ".join(clauses)


def join_items(parts: Iterable[str]) -> str:
    """Join the patterns of a clause with commas; an “and” would make the sentence ambiguous."""
    return ", ".join(parts)


def render_pattern(pattern: TokenPattern) -> str:
    """Return one token pattern as part of a pattern sentence."""
    words = {
        "token": quote_text(pattern.target),
        "beginning": BEGINNING_WORDS + quote_text(pattern.target),
    }
    after = "" if pattern.after is None else f" after {quote_text(pattern.after)}"
    return words.get(pattern.kind, pattern.target) + after


@lru_cache(maxsize=4096)
def parse_rule(text: str) -> PatternRule | None:
    """Return the pattern rule that a sentence of `render_rule` expresses; None for any other
    text."""
    text = text.strip().removesuffix(".")
    text = text[:1].lower() + text[1:]
    patterns, at, opening = [], 0, FIRST_CLAUSE
    while clause := opening.match(text, at):
        found, at = match_list(ITEM_PATTERN, text, clause.end())
        patterns += [pattern_from_match(one, clause["often"] or "") for one in found]
        opening = LATER_CLAUSE
    promoted = ()
    # a semicolon stands before the promoted tokens exactly if patterns precede them
    if (makes := PROMOTED_CLAUSE.match(text, at)) and (makes[0][0] == ";") == bool(patterns):
        found, at = match_list(QUOTED_TEXT, text, makes.end())
        promoted = tuple(unquote_text(one[0]) for one in found)
        at = at + len(" likelier") if text.startswith(" likelier", at) else 0
    return PatternRule(tuple(patterns), promoted) if at == len(text) and text else None


def match_list(one: re.Pattern[str], text: str, at: int) -> tuple[list[re.Match[str]], int]:
    """Return the regular expression matches of the items in a comma-separated list of a pattern
    sentence, from the index `at`, and the index where the list ends."""
    found = []
    while match := one.match(text, at):
        found.append(match)
        at = match.end()
        if not text.startswith(", ", at):
            break
        at += 2
    return found, at


def pattern_from_match(found: re.Match[str], often: str) -> TokenPattern:
    """Return the token pattern of a regular expression match in a pattern sentence."""
    after = unquote_text(found["after"]) if found["after"] else None
    quoted: tuple[PatternKind, ...] = ("token", "beginning")
    for kind in quoted:
        if found[kind]:
            return TokenPattern(kind, unquote_text(found[kind]), after, often)
    return TokenPattern("shape", found["shape"], after, often)

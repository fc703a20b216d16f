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

from autointerp.patterns.records import RATES, Kind, Pattern, Rule
from autointerp.patterns.shapes import SHAPES

NAMED = {"\n": "n", "\t": "t", "\r": "r", "\\": "\\", "”": "”"}
ESCAPED = {letter: char for char, letter in NAMED.items()}
QUOTE = r"“(?:[^”\\]|\\.)*”"
BEGINNING = "words beginning with "
ITEM = re.compile(
    rf"(?:(?P<token>{QUOTE})|{BEGINNING}(?P<beginning>{QUOTE})|(?P<shape>{'|'.join(SHAPES)}))"
    rf"(?: after (?P<after>{QUOTE}))?",
    re.DOTALL,
)
OFTEN = "|".join(word for word in RATES if word)
FIRST = re.compile(rf"(?:(?P<often>{OFTEN}) )?fires on ")
LATER = re.compile(rf"; (?:(?P<often>{OFTEN}) )?on ")
MAKES = re.compile(r"(?:; )?makes (?=“)")
TEXT = re.compile(QUOTE, re.DOTALL)


def quote(text: str) -> str:
    """A text between quotation marks, on one line, in a form that can be read back."""
    return "“" + "".join(written(c) for c in text) + "”"


def written(char: str) -> str:
    """One character within quotation marks."""
    if char in NAMED:
        return "\\" + NAMED[char]
    if char.isprintable():
        return char
    return f"\\u{{{ord(char):x}}}"


def unquote(text: str) -> str:
    """What stands between the marks; a backslash before anything unknown is itself."""
    return re.sub(r"\\(?:u\{([0-9a-f]{1,6})\}|(.))", read, text[1:-1], flags=re.DOTALL)


def read(found: re.Match[str]) -> str:
    """The character that an escape stands for."""
    if found[1] is not None:
        code = int(found[1], 16)
        return chr(code) if code <= 0x10FFFF else found[0]
    return ESCAPED.get(found[2], found[0])


def render(rule: Rule) -> str:
    """The sentence, empty for an empty rule."""
    clauses = []
    for often, group in groupby(rule.patterns, key=lambda p: p.often):
        verb = "on" if clauses else "fires on"
        clauses.append(f"{often} {verb} {listed(map(item, group))}".lstrip())
    if rule.promoted:
        clauses.append(f"makes {listed(map(quote, rule.promoted))} likelier")
    return "; ".join(clauses)


def listed(parts: Iterable[str]) -> str:
    """Between commas: an `and` would leave open what belongs together."""
    return ", ".join(parts)


def item(pattern: Pattern) -> str:
    """One pattern in words."""
    words = {"token": quote(pattern.target), "beginning": BEGINNING + quote(pattern.target)}
    after = "" if pattern.after is None else f" after {quote(pattern.after)}"
    return words.get(pattern.kind, pattern.target) + after


@lru_cache(maxsize=4096)
def parse(text: str) -> Rule | None:
    """The rule that a sentence of `render` says; None for any other text."""
    text = text.strip().removesuffix(".")
    text = text[:1].lower() + text[1:]
    patterns, at, opening = [], 0, FIRST
    while clause := opening.match(text, at):
        found, at = several(ITEM, text, clause.end())
        patterns += [pattern(one, clause["often"] or "") for one in found]
        opening = LATER
    promoted = ()
    if (makes := MAKES.match(text, at)) and (makes[0][0] == ";") == bool(patterns):
        found, at = several(TEXT, text, makes.end())
        promoted = tuple(unquote(one[0]) for one in found)
        at = at + len(" likelier") if text.startswith(" likelier", at) else 0
    return Rule(tuple(patterns), promoted) if at == len(text) and text else None


def several(one: re.Pattern[str], text: str, at: int) -> tuple[list[re.Match[str]], int]:
    """Matches with commas between them, and where they end."""
    found = []
    while match := one.match(text, at):
        found.append(match)
        at = match.end()
        if not text.startswith(", ", at):
            break
        at += 2
    return found, at


def pattern(found: re.Match[str], often: str) -> Pattern:
    """An item as data."""
    after = unquote(found["after"]) if found["after"] else None
    quoted: tuple[Kind, ...] = ("token", "beginning")
    for kind in quoted:
        if found[kind]:
            return Pattern(kind, unquote(found[kind]), after, often)
    return Pattern("shape", found["shape"], after, often)

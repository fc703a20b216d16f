"""What any label says about tokens, whoever wrote it: pattern sentences exactly, others by a guess.

In other labels texts between quotation marks are taken for tokens, unless they are said to be
promoted or to stand on either side; without any, the label's own words are looked for.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from autointerp.patterns.records import Kind, Pattern
from autointerp.patterns.sentence import TEXT, parse, unquote

QUOTED = re.compile(
    rf"{TEXT.pattern}|“[^”]+”|«[^»]+»|\"[^\"]+\"|`[^`]+`|(?<!\w)'[^']+'(?!\w)", re.S
)
BEFORE_IT = re.compile(r"\b(?:after|following|follows|preceded by)\W*(?:the \w+ )?$", re.I)
BEHIND_IT = re.compile(r"\b(?:before|preceding|precedes|followed by)\W*(?:the \w+ )?$", re.I)
BEGINNING = re.compile(r"\b(?:begin|begins|beginning|start|starts|starting) with\W*$", re.I)
PROMOTES = re.compile(r"\b(?:makes?|promot\w+|predict\w*|boosts?|likelier|more likely)\b", re.I)
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+")
GUESSED = "usually"
"""How often a token is supposed to count that a label names without saying."""
EMPTY = frozenset(
    WORD.findall(
        """
        a about above activate activates activating activation active all also an and any
        anything are around as at be been between both but by can code concept concepts contain
        containing contains context contexts different either especially etc every everything
        feature features fire fires firing followed following for from general has have here how
        in into is it its kind kinds language like likelier likely makes mention mentions more
        most neuron neurons not of often on only or other part parts pattern patterns phrase
        phrases piece pieces preceded refer reference references referring refers related
        respond responds sentence sentences several some something sometimes such tend tends
        term terms text texts than that the their them then there these things this those thing
        to token tokens topic topics type types unclear unknown unrelated used usually various
        varied very was were what when where which while with within without word words
        """
    )
)
"""Words of labels that say nothing of what a feature fires on."""
ENDINGS = ("ing", "edly", "ed", "ies", "es", "ly", "s", "'s", "’s")


@dataclass(frozen=True)
class Reading:
    """What is looked for in a text."""

    patterns: tuple[Pattern, ...] = ()
    stems: frozenset[str] = frozenset()
    """Of plain words, where the label has no patterns."""

    @property
    def empty(self) -> bool:
        """Whether the label says nothing that could be looked for."""
        return not self.patterns and not self.stems


@lru_cache(maxsize=4096)
def understood(label: str) -> Reading:
    """What a label says of the tokens on which its feature fires."""
    rule = parse(label)
    if rule is not None:
        return Reading(rule.patterns)
    patterns = guessed(label)
    if patterns or QUOTED.search(label):
        return Reading(patterns)
    said = [word.casefold() for word in WORD.findall(label)]
    telling = [word for word in said if word not in EMPTY] or (said if len(said) == 1 else [])
    return Reading(stems=frozenset(map(stem, telling)))


def guessed(label: str) -> tuple[Pattern, ...]:
    """Patterns out of the quoted texts of a label that is no pattern sentence."""
    found: list[Pattern] = []
    end = 0
    for quoted in QUOTED.finditer(label):
        between, end = label[end : quoted.start()], quoted.end()
        clause = re.split(r"[;.]\s", label[: quoted.start()])[-1]
        text = inside(quoted[0])
        if not text or PROMOTES.search(clause) or BEHIND_IT.search(between):
            continue
        if BEFORE_IT.search(between):
            last = found.pop() if found else Pattern("shape", "anything", often=GUESSED)
            found.append(Pattern(last.kind, last.target, text, GUESSED))
        else:
            kind: Kind = "beginning" if BEGINNING.search(between) else "token"
            found.append(Pattern(kind, text, often=GUESSED))
    return tuple(found)


def inside(quoted: str) -> str:
    """What stands between quotation marks of any kind."""
    return unquote(quoted) if TEXT.fullmatch(quoted) else quoted[1:-1]


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A word, case-folded, without a simple ending: `Parked`, `parks` and `park` are one."""
    word = word.casefold()
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word.removesuffix(ending) + ("y" if ending == "ies" else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    if len(word) > 3 and word[-1] in "ey":
        word = word[:-1]
    return word

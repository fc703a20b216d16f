"""What any label says about tokens, whoever wrote it: pattern sentences exactly, others by a guess.

In other labels texts between quotation marks are taken for tokens, unless they are said to be
promoted or to stand on either side; without any, the label's own words are looked for.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from autointerp.patterns.pattern_sentence import QUOTED_TEXT, parse_rule, unquote_text
from autointerp.patterns.records import PatternKind, TokenPattern

QUOTED_PATTERN = re.compile(
    rf"{QUOTED_TEXT.pattern}|“[^”]+”|«[^»]+»|\"[^\"]+\"|`[^`]+`|(?<!\w)'[^']+'(?!\w)", re.S
)
PRECEDED_BY = re.compile(r"\b(?:after|following|follows|preceded by)\W*(?:the \w+ )?$", re.I)
FOLLOWED_BY = re.compile(r"\b(?:before|preceding|precedes|followed by)\W*(?:the \w+ )?$", re.I)
BEGINS_WITH = re.compile(r"\b(?:begin|begins|beginning|start|starts|starting) with\W*$", re.I)
PROMOTION_WORDS = re.compile(
    r"\b(?:makes?|promot\w+|predict\w*|boosts?|likelier|more likely)\b", re.I
)
WORD_PATTERN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+")
GUESSED_ADVERB = "usually"
"""How often a token is supposed to count that a label names without saying."""
STOP_WORDS = frozenset(
    WORD_PATTERN.findall(
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
WORD_ENDINGS = ("ing", "edly", "ed", "ies", "es", "ly", "s", "'s", "’s")


@dataclass(frozen=True)
class LabelContent:
    """What is looked for in a text."""

    patterns: tuple[TokenPattern, ...] = ()
    stems: frozenset[str] = frozenset()
    """Of plain words, where the label has no patterns."""

    @property
    def empty(self) -> bool:
        """Whether the label says nothing that could be looked for."""
        return not self.patterns and not self.stems


@lru_cache(maxsize=4096)
def read_label(label: str) -> LabelContent:
    """What a label says of the tokens on which its feature fires."""
    rule = parse_rule(label)
    if rule is not None:
        return LabelContent(rule.patterns)
    patterns = guess_patterns(label)
    if patterns or QUOTED_PATTERN.search(label):
        return LabelContent(patterns)
    said = [word.casefold() for word in WORD_PATTERN.findall(label)]
    telling = [word for word in said if word not in STOP_WORDS] or (said if len(said) == 1 else [])
    return LabelContent(stems=frozenset(map(stem_word, telling)))


def guess_patterns(label: str) -> tuple[TokenPattern, ...]:
    """Patterns out of the quoted texts of a label that is no pattern sentence."""
    found: list[TokenPattern] = []
    end = 0
    for quoted in QUOTED_PATTERN.finditer(label):
        between, end = label[end : quoted.start()], quoted.end()
        clause = re.split(r"[;.]\s", label[: quoted.start()])[-1]
        text = strip_quotes(quoted[0])
        if not text or PROMOTION_WORDS.search(clause) or FOLLOWED_BY.search(between):
            continue
        if PRECEDED_BY.search(between):
            last = found.pop() if found else TokenPattern("shape", "anything", often=GUESSED_ADVERB)
            found.append(TokenPattern(last.kind, last.target, text, GUESSED_ADVERB))
        else:
            kind: PatternKind = "beginning" if BEGINS_WITH.search(between) else "token"
            found.append(TokenPattern(kind, text, often=GUESSED_ADVERB))
    return tuple(found)


def strip_quotes(quoted: str) -> str:
    """What stands between quotation marks of any kind."""
    return unquote_text(quoted) if QUOTED_TEXT.fullmatch(quoted) else quoted[1:-1]


@lru_cache(maxsize=1 << 16)
def stem_word(word: str) -> str:
    """A word, case-folded, without a simple ending: `Parked`, `parks` and `park` are one."""
    word = word.casefold()
    for ending in WORD_ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word.removesuffix(ending) + ("y" if ending == "ies" else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    if len(word) > 3 and word[-1] in "ey":
        word = word[:-1]
    return word

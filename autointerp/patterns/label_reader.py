"""Reader of labels: what a label says about tokens, whoever wrote it. Pattern sentences are read
exactly, other labels by a guess: quoted texts are taken for tokens, unless the label says that they
are promoted or stand on either side; without quotes, the label's own words are searched for."""

import re
from dataclasses import dataclass
from functools import lru_cache

from autointerp.patterns.pattern_sentence import QUOTED_TEXT, parse_rule, unquote_text
from autointerp.patterns.token_patterns import PatternKind, TokenPattern

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
"""Adverb of frequency assumed for a token that a label names without giving one."""
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
"""Words of labels that carry no information about what a feature fires on."""
WORD_ENDINGS = ("ing", "edly", "ed", "ies", "es", "ly", "s", "'s", "’s")


@dataclass(frozen=True)
class LabelContent:
    """What the label reader finds in a feature's label: the token patterns or word stems that are
    searched for in a text."""

    patterns: tuple[TokenPattern, ...] = ()
    stems: frozenset[str] = frozenset()
    """Stems of the label's plain words, where it has no patterns."""

    @property
    def is_empty(self) -> bool:
        """Whether the label contains nothing that could be searched for."""
        return not self.patterns and not self.stems


@lru_cache(maxsize=4096)
def read_label(label: str) -> LabelContent:
    """Return what a label says about the tokens on which its feature fires: patterns, or stems of
    its words."""
    rule = parse_rule(label)
    if rule is not None:
        return LabelContent(rule.patterns)
    patterns = guess_patterns(label)
    if patterns or QUOTED_PATTERN.search(label):
        return LabelContent(patterns)
    words = [word.casefold() for word in WORD_PATTERN.findall(label)]
    informative = [word for word in words if word not in STOP_WORDS] or (
        words if len(words) == 1 else []
    )
    return LabelContent(stems=frozenset(map(stem_word, informative)))


def guess_patterns(label: str) -> tuple[TokenPattern, ...]:
    """Return patterns for the quoted texts of a label that is no pattern sentence."""
    found: list[TokenPattern] = []
    end = 0
    for quoted in QUOTED_PATTERN.finditer(label):
        between, end = label[end : quoted.start()], quoted.end()
        # only words of the same clause say what the quoted text is
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
    """Return the text between quotation marks of any kind, as read from a label."""
    return unquote_text(quoted) if QUOTED_TEXT.fullmatch(quoted) else quoted[1:-1]


@lru_cache(maxsize=1 << 16)
def stem_word(word: str) -> str:
    """Return a word of a label in lower case without a simple ending: `Parked`, `parks` and `park`
    have one stem."""
    word = word.casefold()
    for ending in WORD_ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word.removesuffix(ending) + ("y" if ending == "ies" else "")
            break
    # “stopped” → “stopp” → “stop”
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    if len(word) > 3 and word[-1] in "ey":
        word = word[:-1]
    return word

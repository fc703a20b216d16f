"""Task generators of the demo: for each task, a function that draws the random words of one
template, among them the right `answer` and a tempting `wrong` one.

Both are single tokens of the demo's tokenizer, leading space included.
"""

import random
import re
from collections.abc import Callable, Sequence

from backend.demo import word_lists
from backend.demo.word_lists import WORD_POOLS

DESCRIBED_POOLS = ("object", "place", "animal", "food", "thing", "event", "job")
"""Word pools whose words sometimes get an adjective, since templates of fixed length would let a
model copy from a fixed distance."""


class TemplateSlots(dict[str, str]):
    """Slots of one story template and the words that fill them.

    A slot that the task has not set is drawn from the word pool of the same name. A number at its
    end (`object2`) makes a separate draw, different from the earlier ones.
    """

    def __init__(self, rng: random.Random, **given: str) -> None:
        super().__init__(given)
        self.rng = rng

    def __missing__(self, key: str) -> str:
        """Draw a word for a slot that has none yet; a capitalised slot gets the capitalised
        word."""
        if key[0].isupper():
            value = self[key.lower()].capitalize()
        else:
            pool = key.rstrip("0123456789")
            value = self.rng.choice(
                [word for word in WORD_POOLS[pool] if word not in self.values()]
            )
            if pool in DESCRIBED_POOLS and self.rng.random() < 0.35:
                value = f"{self.rng.choice(WORD_POOLS['adj'])} {value}"
        self[key] = value
        return value


def fill_template(text: str, slots: TemplateSlots) -> str:
    """Fill the slots of a template's text, and turn `a` into `an` before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeiou])(?!and\b)", r"\1n ", text.format_map(slots))


def draw_indirect_object(rng: random.Random, _kind: str) -> TemplateSlots:
    """Draw the task `indirect_object`: of two people one gives something, and the answer is the one
    who receives (Wang et al. 2022)."""
    a, b = rng.sample(word_lists.NAMES, 2)
    giver, receiver = rng.sample((a, b), 2)
    return TemplateSlots(rng, A=a, B=b, S=giver, answer=f" {receiver}", wrong=f" {giver}")


def draw_greater_than(rng: random.Random, _kind: str) -> TemplateSlots:
    """Draw the task `greater_than`: what begins in one year ends in a later one, and any later year
    is right (Hanna et al. 2023)."""
    start = rng.randint(1905, 1985)
    end = start + rng.randint(1, min(30, 1999 - start))
    early = start - rng.randint(1, min(30, start - 1900))
    return TemplateSlots(rng, **{"from": str(start)}, answer=f" {end}", wrong=f" {early}")


PRONOUNS = {"subj": (" she", " he"), "poss": (" her", " his"), "obj": (" her", " him")}
"""Pronouns (female, male) of each grammatical case, with the leading space of the answer token."""


def draw_pronoun(rng: random.Random, kind: str) -> TemplateSlots:
    """Draw the task `pronoun`: the pronoun agrees with the gender of the name."""
    girl = rng.random() < 0.5
    answer, wrong = PRONOUNS[kind] if girl else PRONOUNS[kind][::-1]
    return TemplateSlots(
        rng,
        who=rng.choice(word_lists.GIRLS if girl else word_lists.BOYS),
        answer=answer,
        wrong=wrong,
    )


def _maybe_draw_word(rng: random.Random, pool: str) -> str:
    """Return a random word of `pool` and a space with probability 0.3, else an empty string."""
    return f"{rng.choice(WORD_POOLS[pool])} " if rng.random() < 0.3 else ""


VERBS = {"be": (" is", " are"), "was": (" was", " were"), "have": (" has", " have")}
"""Verb forms (singular, plural) of the agreement task, with the leading space of the answer
token."""


def draw_agreement(rng: random.Random, kind: str) -> TemplateSlots:
    """Draw the task `agreement`: the verb agrees with the subject's number, not with that of the
    nearer noun."""
    noun, other = rng.sample(word_lists.NOUNS, 2)
    plural = rng.random() < 0.5
    answer, wrong = VERBS[kind][::-1] if plural else VERBS[kind]
    other = _maybe_draw_word(rng, "colour") + other + "s" * rng.randint(0, 1)
    return TemplateSlots(rng, noun=noun + "s" * plural, other=other, answer=answer, wrong=wrong)


def draw_docstring_argument(rng: random.Random, _kind: str) -> TemplateSlots:
    """Draw the task `docstring`: the documentation lists the function's arguments in their order
    (Heimersheim and Janiak 2023)."""
    a, b, c, d = rng.sample(word_lists.ARGUMENTS, 4)
    return TemplateSlots(rng, a=a, b=b, c=c, d=d, answer=f" {c}", wrong=f" {rng.choice((a, b))}")


VERDICTS = {
    "love": (" loved", " hated"),
    "feel": (" happy", " sad"),
    "review": (" positive", " negative"),
    "good": (" good", " bad"),
}
"""Words (positive, negative) that answer the sentiment task, by the kind of question."""


def draw_sentiment(rng: random.Random, kind: str) -> TemplateSlots:
    """Draw the task `sentiment`: the verdict follows from the positive or negative opinion in the
    text."""
    good = rng.random() < 0.5
    first, second = rng.sample(word_lists.GOOD if good else word_lists.BAD, 2)
    answer, wrong = VERDICTS[kind] if good else VERDICTS[kind][::-1]
    first = rng.choice(("", "", "very ", "really ")) + first
    return TemplateSlots(rng, opinion=first, opinion2=second, answer=answer, wrong=wrong)


def draw_first_letter(rng: random.Random, _kind: str) -> TemplateSlots:
    """Draw the task `first_letter`: the answer is the capital letter that a word begins with."""
    target, w1, w2 = rng.sample(word_lists.LETTER_WORDS, 3)
    right, l1, l2 = (word[0].upper() for word in (target, w1, w2))
    wrong = rng.choice(
        [word[0].upper() for word in word_lists.LETTER_WORDS if word[0].upper() != right]
    )
    letters = {"l1": l1, "l2": l2, "w1": w1, "w2": w2}
    return TemplateSlots(rng, target=target, **letters, answer=f" {right}", wrong=f" {wrong}")


BRACKETS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "<": ">"}
"""Opening brackets and quotation marks with their closing counterparts."""


def draw_closing_bracket(rng: random.Random, _kind: str) -> TemplateSlots:
    """Draw the task `closing`: an opening bracket or quotation mark is closed by its own
    counterpart after a fixed number of words."""
    opened = rng.choice(list(BRACKETS))
    wrong = rng.choice([mark for mark in BRACKETS.values() if mark != BRACKETS[opened]])
    a, b, c = rng.sample(word_lists.ARGUMENTS, 3)
    content = f"{rng.choice(WORD_POOLS['adj'])} {rng.choice(word_lists.NOUNS)}"
    inside = {"open": opened, "content": content, "a": a, "b": b, "c": c}
    return TemplateSlots(rng, **inside, answer=BRACKETS[opened], wrong=wrong)


def draw_induction(rng: random.Random, _kind: str) -> TemplateSlots:
    """Draw the task `induction`: a list of unrelated words is repeated, and the next word is the
    one that followed before."""
    items = rng.sample(word_lists.LIST_WORDS, rng.randint(4, 6))
    index = rng.randint(1, len(items) - 1)
    wrong = rng.choice([item for item in items if item != items[index]])
    seq, part = " ".join(items), " ".join(items[:index])
    return TemplateSlots(rng, seq=seq, part=part, answer=f" {items[index]}", wrong=f" {wrong}")


TASKS: dict[str, Callable[[random.Random, str], TemplateSlots]] = {
    "indirect_object": draw_indirect_object,
    "greater_than": draw_greater_than,
    "pronoun": draw_pronoun,
    "agreement": draw_agreement,
    "docstring": draw_docstring_argument,
    "sentiment": draw_sentiment,
    "first_letter": draw_first_letter,
    "closing": draw_closing_bracket,
    "induction": draw_induction,
}
"""Generators of the demo's tasks, by task name."""


def single_token_words() -> Sequence[str]:
    """Return every word that the demo's tokenizer must encode as one token after a space: names,
    years, argument names and answers."""
    pairs = [*PRONOUNS.values(), *VERBS.values(), *VERDICTS.values()]
    answers = [word.strip() for pair in pairs for word in pair]
    letters = {word[0].upper() for word in word_lists.LETTER_WORDS}
    lists = (
        word_lists.NAMES,
        word_lists.YEARS,
        word_lists.ARGUMENTS,
        word_lists.LETTER_WORDS,
        word_lists.LIST_WORDS,
    )
    return sorted({*answers, *letters, *(word for each in lists for word in each)})

"""The word lists of the generated corpus, from words.txt, and what is made of them."""

from pathlib import Path


def _read_word_pools(path: Path) -> dict[str, tuple[str, ...]]:
    """`[pool]` headings, each followed by lines of words."""
    pools: dict[str, tuple[str, ...]] = {}
    for block in path.read_text(encoding="utf-8").split("[")[1:]:
        name, _, text = block.partition("]")
        pools[name] = tuple(text.split())
    return pools


WORD_POOLS = _read_word_pools(Path(__file__).with_name("words.txt"))
"""What a slot of a template draws from."""

GIRLS, BOYS = WORD_POOLS["girl"], WORD_POOLS["boy"]
NAMES = GIRLS + BOYS
GOOD, BAD = WORD_POOLS["good"], WORD_POOLS["bad"]
ARGUMENTS = WORD_POOLS["arg"]
NOUNS = WORD_POOLS["noun"]
"""Nouns whose plural is the singular with an s."""
YEARS = tuple(str(year) for year in range(1900, 2000))

_NAMED_POOLS = ("animal", "food", "colour")
LETTER_WORDS = tuple(sorted({w for pool in _NAMED_POOLS for w in WORD_POOLS[pool]}))
"""Words whose first letter is asked for."""
LIST_WORDS = tuple(
    sorted({w for pool in (*_NAMED_POOLS, "object", "place", "city") for w in WORD_POOLS[pool]})
)
"""Words that are repeated in lists."""
WORD_POOLS |= {"name": NAMES, "year": YEARS, "word": LETTER_WORDS, "item": LIST_WORDS}

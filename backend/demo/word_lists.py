"""Word lists of the demo's generated texts, read from words.txt, and lists derived from them."""

from pathlib import Path


def _read_word_pools(path: Path) -> dict[str, tuple[str, ...]]:
    """Read the word pools that fill the slots of the demo's story templates from a file: `[pool]`
    headings, each followed by lines of words."""
    pools: dict[str, tuple[str, ...]] = {}
    for block in path.read_text(encoding="utf-8").split("[")[1:]:
        name, _, text = block.partition("]")
        pools[name] = tuple(text.split())
    return pools


WORD_POOLS = _read_word_pools(Path(__file__).with_name("words.txt"))
"""Word pools from which the slots of story templates are drawn."""

GIRLS, BOYS = WORD_POOLS["girl"], WORD_POOLS["boy"]
NAMES = GIRLS + BOYS
GOOD, BAD = WORD_POOLS["good"], WORD_POOLS["bad"]
ARGUMENTS = WORD_POOLS["arg"]
NOUNS = WORD_POOLS["noun"]
"""Nouns whose plural is the singular with an s."""
YEARS = tuple(str(year) for year in range(1900, 2000))

_NAMED_POOLS = ("animal", "food", "colour")
LETTER_WORDS = tuple(sorted({w for pool in _NAMED_POOLS for w in WORD_POOLS[pool]}))
"""Words whose first letter is asked for in the first-letter task."""
LIST_WORDS = tuple(
    sorted({w for pool in (*_NAMED_POOLS, "object", "place", "city") for w in WORD_POOLS[pool]})
)
"""Words that are repeated in the lists of the induction task."""
WORD_POOLS |= {"name": NAMES, "year": YEARS, "word": LETTER_WORDS, "item": LIST_WORDS}

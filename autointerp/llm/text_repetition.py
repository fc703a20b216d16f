"""Replies that go round in circles until they are cut off."""

WORDS_PER_RUN = 4
"""Words of a run that is compared."""
MIN_WORDS = 12
"""Words below which nothing is called repetitive."""
MIN_DISTINCT_SHARE = 0.7
"""Share of distinct runs of words below which a text repeats itself."""
MIN_COPIES = 4
"""How often a piece without spaces must follow itself to be called a repetition."""


def repeats_itself(text: str) -> bool:
    """Return whether a text says the same again and again.

    By the share of distinct runs of four words, or where its end is one piece many times over.
    Measured on replies of SmolLM2-135M: all that ran into their limit are found, no other is.
    """
    words = text.split()
    if len(words) >= MIN_WORDS:
        runs = [tuple(words[i : i + WORDS_PER_RUN]) for i in range(len(words) - WORDS_PER_RUN + 1)]
        if len(set(runs)) < MIN_DISTINCT_SHARE * len(runs):
            return True
    return ends_in_copies(text.rstrip('"} \n'))


def ends_in_copies(text: str) -> bool:
    """Return whether a text ends in one piece of 1 to 60 characters, TIMES over and 24 long."""
    for size in range(1, min(60, len(text) // MIN_COPIES) + 1):
        copies = max(MIN_COPIES, -(-24 // size))
        piece = text[-size:]
        if len(text) >= size * copies and text.endswith(piece * copies):
            return True
    return False

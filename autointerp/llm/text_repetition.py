"""Detection of repetition: texts of small models that repeat themselves until they are cut off."""

WORDS_PER_RUN = 4
"""Length in words of the runs that are compared to detect repetition."""
MIN_WORDS = 12
"""Number of words below which no text is called repetitive."""
MIN_DISTINCT_SHARE = 0.7
"""Share of distinct runs of words below which a text counts as repeating itself."""
MIN_COPIES = 4
"""Number of times that a piece without spaces must follow itself to count as a repetition."""


def repeats_itself(text: str) -> bool:
    """Return whether the text of a language model's reply repeats itself.

    It does if it has few distinct runs of four words, or ends in many copies of one piece. On
    replies of SmolLM2-135M this finds all that ran into their token limit, and no others.
    """
    words = text.split()
    if len(words) >= MIN_WORDS:
        runs = [tuple(words[i : i + WORDS_PER_RUN]) for i in range(len(words) - WORDS_PER_RUN + 1)]
        if len(set(runs)) < MIN_DISTINCT_SHARE * len(runs):
            return True
    return ends_in_copies(text.rstrip('"} \n'))


def ends_in_copies(text: str) -> bool:
    """Return whether the text of a reply ends in repeated copies of one piece of 1 to 60
    characters: at least MIN_COPIES copies and 24 characters."""
    for size in range(1, min(60, len(text) // MIN_COPIES) + 1):
        # -(-a // b) rounds up: a short piece needs more copies, 24 characters in all
        copies = max(MIN_COPIES, -(-24 // size))
        piece = text[-size:]
        if len(text) >= size * copies and text.endswith(piece * copies):
            return True
    return False

"""Failed explanations: texts in other tools' files that stand where an explanation should be, such
as error messages and refusals.

Imported as explanations they would be labelled, searched and scored; so they are counted as
failures and left out.
"""

import re
from collections import Counter

UNPARSED = re.compile(
    r"(?:the )?(?:explanation|response|reply|output|answer)s? "
    r"(?:could not|couldn't|cannot|can't|can not|was not|failed to|unable to) (?:be )?"
    r"(?:parsed?|generated?|found|extracted?|obtained|read)\b.*"
    r"|(?:could not|couldn't|cannot|can't|failed to|unable to|error while|error when) "
    r"(?:pars|generat|extract|explain|obtain|creat|read)\w*\b.{0,20}"
    r"\b(?:explanation|response|reply|output|answer|label|description|feature|neuron|latent)\b.*",
    re.IGNORECASE | re.DOTALL,
)
EMPTY = re.compile(
    r"n/?a|n\.a\.|none|null|nil|nan|undefined|unknown|todo|tbd|placeholder|unparsed|error"
    r"|(?:no|not) (?:explanation|description|label|response|available|answer)"
    r"(?: (?:found|available|given|generated|provided|yet))?|[\s\-–—.…?*\"'`]*",
    re.IGNORECASE,
)
ERROR = re.compile(
    r"traceback \(most recent call last\).*|<!doctype html.*|<html\b.*"
    r"|\{\s*[\"']error[\"']\s*:.*|error:.*|error code:? ?\d{3}\b.*"
    r"|(?-i:(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Timeout)\b)\s*[(:].*"
    r"|http(?:/[\d.]+)? (?:error )?[45]\d\d\b.*"
    r"|(?:[45]\d\d )?(?:bad request|unauthorized|internal server error|bad gateway|"
    r"service unavailable|gateway time-?out|too many requests|rate limit(?: exceeded| reached)?|"
    r"request timed out|connection (?:error|refused|reset|timed out|aborted))\W*",
    re.IGNORECASE | re.DOTALL,
)
REFUSAL = re.compile(
    r"(?:i'm|i am) (?:sorry|afraid)\b,? ?(?:but|i\b|as\b).*|as an ai\b.*"
    r"|i (?:cannot|can't|can not|am unable to|am not able to) "
    r"(?:help|assist|provide|explain|determine|identify|find|comply|fulfil\w*)\b.*",
    re.IGNORECASE | re.DOTALL,
)
FAILURE_KINDS = {
    "not parsed": UNPARSED,
    "empty": EMPTY,
    "an error instead": ERROR,
    "refused": REFUSAL,
}
"""Kind of failed explanation -> pattern of the complete text, without surrounding characters."""
SURROUNDING_CHARACTERS = " \t\r\n\"'`“”‘’[]()<>*_."
SHOWN_CHARACTERS = 60


def find_failure_kind(text: str) -> str | None:
    """Return the kind of failed explanation (unparsed, empty, error message or refusal) that a text
    is, a key of FAILURE_KINDS; None for a real explanation."""
    bare = text.replace("’", "'").strip()
    forms = {bare, bare.strip(SURROUNDING_CHARACTERS)}
    for kind, pattern in FAILURE_KINDS.items():
        if any(pattern.fullmatch(form) for form in forms):
            return kind
    return None


class FailureCounts:
    """Counter of failed explanations (such as error messages and refusals) in another tool's files,
    by kind and text."""

    def __init__(self) -> None:
        self._texts: Counter[tuple[str, str]] = Counter()

    def count_if_failed(self, text: str) -> bool:
        """Count a text if it is a failed explanation; return whether it is."""
        kind = find_failure_kind(text)
        if kind is None:
            return False
        self._texts[kind, " ".join(text.split())[:SHOWN_CHARACTERS]] += 1
        return True

    def describe_failures(self) -> list[str]:
        """Return a sentence for each kind of failed explanation: how many there were, and the
        most frequent text."""
        found = []
        for kind in FAILURE_KINDS:
            texts = Counter({text: n for (of, text), n in self._texts.items() if of == kind})
            if not texts:
                continue
            common = texts.most_common(1)[0][0]
            example = f", for example {common!r}" if common else ""
            n = texts.total()
            s = "" if n == 1 else "s"
            found.append(f"{n} failed explanation{s} ({kind}{example})")
        return found

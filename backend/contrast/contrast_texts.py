"""Input texts of a contrast: parse typed lines, uploaded .txt and .jsonl files and [[marked]] spans
into documents.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from feature_store.errors import InputError
from feature_store.strict_json import JsonError, parse_json

ReadingUnit = Literal["document", "last", "marked"]
READING_UNITS: dict[str, str] = {
    "document": "whole document",
    "last": "last token",
    "marked": "marked token",
}
"""Which tokens of a text are read: the strongest activation anywhere in the document, the last
token, or the marked token.
"""
MAX_DOCUMENTS_PER_SIDE = 2_000
"""Maximum number of documents on each side of a contrast."""
MARKED_SPAN = re.compile(r"\[\[(.+?)\]\]", re.DOTALL)


@dataclass(frozen=True)
class ContrastDocument:
    """One input text of a contrast, and the number of its set."""

    text: str
    """The text without the brackets of a mark."""
    group: int
    end: int | None = None
    """Character offset at which the marked span ends; None if no mark is needed."""


def split_lines(text: str) -> list[str]:
    """Split typed text into one document per line for a contrast, without empty lines."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def collect_documents(
    groups: Mapping[str, Sequence[str]], unit: ReadingUnit
) -> tuple[list[ContrastDocument], int]:
    """Collect the documents of all sets of texts, without repeats, and return them with the number
    of repeats left out.

    Raises InputError for fewer than two sets, an empty set, too many texts, and, if the marked
    token is read, for a text without exactly one mark `[[…]]`.
    """
    if len(groups) < 2:
        raise InputError("There is only one set of texts: give two, or a file with two labels.")
    found, repeats = [], 0
    for number, (name, given) in enumerate(groups.items()):
        texts = list(dict.fromkeys(text for text in given if text.strip()))
        repeats += sum(1 for text in given if text.strip()) - len(texts)
        if not texts:
            raise InputError(f"There are no texts in {name!r}: give one text a line.")
        if len(texts) > MAX_DOCUMENTS_PER_SIDE:
            raise InputError(
                f"{name!r} has {len(texts):,} texts: at most {MAX_DOCUMENTS_PER_SIDE:,} a side "
                f"can be compared. Take a sample."
            )
        for place, text in enumerate(texts):
            found.append(_parse_document(text, number, unit, f"Text {place + 1} of {name!r}"))
    return found, repeats


def _parse_document(text: str, group: int, unit: ReadingUnit, what: str) -> ContrastDocument:
    if unit != "marked":
        return ContrastDocument(text, group)
    marks = list(MARKED_SPAN.finditer(text))
    if len(marks) != 1:
        problem = "no mark" if not marks else f"{len(marks)} marks"
        raise InputError(f"{what} has {problem}: put [[ ]] around one token or span of each text.")
    (mark,) = marks
    plain = text[: mark.start()] + mark[1] + text[mark.end() :]
    return ContrastDocument(plain, group, mark.start() + len(mark[1]))


def parse_text_file(name: str, content: bytes) -> dict[str, list[str]]:
    """Parse an uploaded file into texts by label.

    `.txt`: one text per line. `.jsonl`: one object per line with `text` and optionally `label`.
    Texts without a label are under "". Raises InputError that names the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{name} is not UTF-8 text. Save it as UTF-8.") from None
    if name.endswith(".txt"):
        return {"": split_lines(text)}
    if not name.endswith(".jsonl"):
        raise InputError(f"{name} is neither .txt (one text a line) nor .jsonl (with `text`).")
    found: dict[str, list[str]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            label, one = _parse_json_line(f"{name}, line {number}", line)
            found.setdefault(label, []).append(one)
    return found


def _parse_json_line(where: str, line: str) -> tuple[str, str]:
    try:
        row = parse_json(line)
    except JsonError as bad:
        raise InputError(
            f"{where} is not JSON ({bad.reason}). Write one object on each line."
        ) from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise InputError(f'{where} has no text: write an object such as {{"text": "…"}}.')
    label = row.get("label", "")
    if not isinstance(label, str | int):
        raise InputError(f"{where} has a label that is neither a text nor a whole number.")
    return str(label), row["text"]

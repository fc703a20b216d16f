"""Labelled texts that a probe is trained and tested on: parsing, formatting and checks."""

from collections.abc import Sequence
from dataclasses import dataclass

from feature_store.errors import InputError
from feature_store.strict_json import JsonError, dump_json, parse_json

MIN_TEXTS_PER_LABEL = 10
"""Minimum number of training texts of each label."""
MAX_TEXTS_PER_SET = 4_000
"""Maximum number of texts in the training set and in the test set."""


@dataclass(frozen=True)
class LabelledText:
    """One text for a probe, with its label and the group it belongs to, a second property that may
    correlate with the label.
    """

    text: str
    label: str
    group: str = ""

    @property
    def cell(self) -> str:
        """Label and group of a text together: the cells among which a probe's worst group is
        found.
        """
        return f"{self.label} · {self.group}" if self.group else self.label


@dataclass(frozen=True)
class ProbeTextSets:
    """The training texts and the test texts of a probe; no text is in both."""

    labels: tuple[str, str]
    """The two labels; the probe's log-odds are those of the second."""
    train: tuple[LabelledText, ...]
    test: tuple[LabelledText, ...]
    repeats: int = 0
    """Number of texts left out because they occurred before."""

    def signs(self, examples: Sequence[LabelledText]) -> list[int]:
        """Return −1 for texts with the first label and +1 for texts with the second."""
        return [1 if one.label == self.labels[1] else -1 for one in examples]

    @property
    def grouped(self) -> bool:
        """True if every test text of the probe has a group."""
        return all(one.group for one in self.test)


def parse_labelled_texts(content: str, what: str) -> tuple[LabelledText, ...]:
    """Parse labelled texts, one per line: JSON with `text`, `label` and optionally `group`, or
    label, optional group and text separated by tabs.

    Raises InputError that names the line; `what` names the set of texts.
    """
    found = []
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            where = f"{what}, line {number}"
            found.append(
                _parse_json_line(line, where)
                if line.lstrip()[0] == "{"
                else _parse_tab_line(line, where)
            )
    return tuple(found)


def format_labelled_texts(examples: Sequence[LabelledText]) -> str:
    """Format labelled texts as lines of JSON, as `parse_labelled_texts` reads them."""
    rows = [
        {"text": e.text, "label": e.label} | ({"group": e.group} if e.group else {})
        for e in examples
    ]
    return "\n".join(dump_json(row) for row in rows)


def build_text_sets(train: Sequence[LabelledText], test: Sequence[LabelledText]) -> ProbeTextSets:
    """Build the training and test texts of a probe, without repeats.

    Raises InputError unless there are exactly two labels, with MIN_TEXTS_PER_LABEL training texts
    each, and test texts of both.
    """
    training = tuple(dict.fromkeys(train))
    labels = tuple(sorted({one.label for one in training}))
    if len(labels) != 2:
        listed = ", ".join(labels[:5]) or "none"
        raise InputError(f"A probe needs exactly two labels; the training texts have: {listed}.")
    seen = {one.text for one in training}
    held_out = tuple(one for one in dict.fromkeys(test) if one.text not in seen)
    for name, texts, least in (("training", training, MIN_TEXTS_PER_LABEL), ("test", held_out, 1)):
        _check_labels(name, texts, labels, least)
    return ProbeTextSets(
        (labels[0], labels[1]),
        training,
        held_out,
        len(train) + len(test) - len(training) - len(held_out),
    )


def _check_labels(
    name: str, texts: Sequence[LabelledText], labels: Sequence[str], least: int
) -> None:
    if len(texts) > MAX_TEXTS_PER_SET:
        raise InputError(
            f"There are {len(texts):,} {name} texts; take a sample of {MAX_TEXTS_PER_SET:,}."
        )
    by_text: dict[str, str] = {}
    for one in texts:
        if one.label not in labels:
            raise InputError(
                f"A {name} text has the label {one.label!r}; the training texts have "
                f"{' and '.join(labels)}."
            )
        if by_text.setdefault(one.text, one.label) != one.label:
            raise InputError(f"{one.text[:40]!r} has both labels among the {name} texts: keep one.")
    for label in labels:
        n = sum(one.label == label for one in texts)
        if n < least:
            raise InputError(
                f"{n} {name} texts have the label {label!r}; at least {least} are needed "
                "that are not among the training texts."
                if name == "test"
                else f"{n} {name} texts have the label {label!r}; at least {least} are needed."
            )


def _parse_json_line(line: str, where: str) -> LabelledText:
    try:
        row = parse_json(line)
    except JsonError as bad:
        raise InputError(
            f"{where} is not JSON ({bad.reason}). Write one object on each line."
        ) from None
    values = [row.get(name, "") for name in ("text", "label", "group")]
    if not isinstance(values[0], str) or not all(isinstance(v, str | int) for v in values[1:]):
        raise InputError(f'{where} must look like {{"text": "…", "label": "…", "group": "…"}}.')
    return _labelled_text(values[0], str(values[1]), str(values[2]), where)


def _parse_tab_line(line: str, where: str) -> LabelledText:
    label, _, rest = line.strip("\r").partition("\t")
    group, tab, text = rest.partition("\t")
    return (
        _labelled_text(text, label, group, where)
        if tab
        else _labelled_text(group, label, "", where)
    )


def _labelled_text(text: str, label: str, group: str, where: str) -> LabelledText:
    if not text.strip() or not label.strip():
        raise InputError(
            f"{where} has no text or no label: write JSON, or label and text separated by a tab."
        )
    return LabelledText(text.strip(), label.strip(), group.strip())

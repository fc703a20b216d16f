"""Conversion of circuit records of format 1, in which faithfulness could be stored without its
null, to format 2."""

from collections.abc import Mapping
from typing import Any

NO_NULL_NOTE = (
    "This circuit was found by a version that could store faithfulness without its "
    "null. Run it again to measure both."
)
NULL_FIELDS = ("null", "null_95", "nearer")


def convert_format_1(given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a circuit record of format 1 to format 2.

    Faithfulness is kept if the curve point of the whole graph has a null; otherwise it is dropped
    and a note is added. Values that are no circuit record are returned unchanged for
    `Circuit.from_json` to refuse.
    """
    found = {**given, "format": 2}
    old_value = found.pop("faithfulness", None)
    for name, key in (("curves", "faithfulness"), ("held", "held_faithfulness")):
        points = found.get(name, ())
        if not isinstance(points, list | tuple):
            return found
        figure = next((one for point in points if (one := _build_faithfulness(point))), None)
        if figure is not None:
            found[key] = figure
        found[name] = [_convert_point(point) for point in points]
    if old_value is not None and "faithfulness" not in found:
        found["notes"] = [*found.get("notes", ()), NO_NULL_NOTE]
    return found


def _convert_point(point: Any) -> Any:
    if not isinstance(point, Mapping):
        return point
    row = {key: value for key, value in point.items() if key not in NULL_FIELDS}
    if "faithfulness" in row:
        row["share"] = row.pop("faithfulness")
    return row


def _build_faithfulness(point: Any) -> dict[str, Any] | None:
    """Return the faithfulness record of a curve point of format 1 that has a complete null; None
    for other points."""
    if not isinstance(point, Mapping) or any(point.get(name) is None for name in NULL_FIELDS):
        return None
    own, null = point.get("faithfulness"), point["null"]
    if not isinstance(own, Mapping) or not isinstance(null, Mapping):
        return None
    return {
        **own,
        "nodes": point.get("nodes"),
        "errors": point.get("errors"),
        "null": {
            "median": null.get("value"),
            "low": null.get("low"),
            "high": null.get("high"),
            "percentile_95": point["null_95"],
            "draws": null.get("n"),
            "nearer": point["nearer"],
        },
    }

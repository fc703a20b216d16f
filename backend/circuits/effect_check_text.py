"""An effect check in words, for page and command; free of torch."""

from backend.circuits.records import EffectCheck
from feature_store.number_text import fixed_number


def describe_agreement(check: EffectCheck) -> str:
    """Return "Spearman 0.98, slope 0.97, median error 4 % (50 nodes, 16 paths)"."""
    known = (("Spearman", check.spearman), ("slope", check.slope))
    figures = [f"{name} {fixed_number(value)}" for name, value in known if value is not None]
    if check.median_error is not None:
        figures.append(f"median error {fixed_number(100 * check.median_error, 0)} %")
    if not figures:
        return f"not defined for {check.nodes} nodes"
    paths = "" if check.paths is None else f", {check.paths} paths"
    return f"{', '.join(figures)} ({check.nodes} nodes{paths})"

"""An effect check in words, for page and command; free of torch."""

from backend.circuits.records import EffectCheck


def describe_agreement(check: EffectCheck) -> str:
    """Return "Spearman 0.98, slope 0.97, median error 4 % (50 nodes, 16 paths)"."""
    known = (("Spearman", check.spearman), ("slope", check.slope))
    figures = [f"{name} {value:.2f}" for name, value in known if value is not None]
    if check.median_error is not None:
        figures.append(f"median error {100 * check.median_error:.0f} %")
    if not figures:
        return f"not defined for {check.nodes} nodes"
    paths = "" if check.paths is None else f", {check.paths} paths"
    return f"{', '.join(figures)} ({check.nodes} nodes{paths})"

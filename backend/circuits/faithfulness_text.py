"""Text for a circuit's figures (faithfulness, its null, the effect check), for the page, the
command and exported files. This module does not load torch."""

from backend.circuits.records import EffectCheck, Faithfulness

NOT_BETTER = "not better than random sets of the same composition"


def describe_effect_check(check: EffectCheck) -> str:
    """Describe in text the agreement of a circuit's estimated and exact effects, e.g. "Spearman
    0.98, slope 0.97, median error 4 % (50 nodes, 16 paths)"."""
    known = (("Spearman", check.spearman), ("slope", check.slope))
    figures = [f"{name} {value:.2f}" for name, value in known if value is not None]
    if check.median_error is not None:
        figures.append(f"median error {100 * check.median_error:.0f} %")
    if not figures:
        return f"not defined for {check.nodes} nodes"
    paths = "" if check.paths is None else f", {check.paths} paths"
    return f"{', '.join(figures)} ({check.nodes} nodes{paths})"


def describe_faithfulness_null(figure: Faithfulness) -> str:
    """Describe in text the null of a circuit's faithfulness, e.g. "random sets: 95th percentile
    0.16, 200 draws", with the verdict if the circuit is not better than random sets."""
    null = figure.null
    text = (
        f"random sets: 95th percentile {format_faithfulness(null.percentile_95)}, "
        f"{null.draws} draws"
    )
    return f"{text}; {verdict}" if (verdict := describe_random_set_verdict(figure)) else text


def describe_random_set_verdict(figure: Faithfulness) -> str:
    """Describe in text how a circuit's faithfulness compares with random sets if it is not simply
    above them; otherwise return an empty text."""
    nearer = f"{figure.null.nearer:.0%} of them end further from the whole model"
    if figure.better_than_random:
        return "" if figure.above_null else f"they overshoot: {nearer}"
    return f"{NOT_BETTER}, and it overshoots: {nearer}" if figure.above_null else NOT_BETTER


def format_faithfulness(value: float) -> str:
    """Format a faithfulness, a share of F(M) − F(∅), as text with two decimals; from 10 on without
    decimals."""
    if abs(value) >= 10:
        return f"{value:,.0f}".replace("-", "−")
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # + 0.0 turns −0.0 into 0.0

"""What a job will take, in words: calls, tokens, money and time."""

from app.wording import count, duration, plural
from autointerp.pipeline.cost_estimate import CostEstimate

LONG_S = 600.0
"""From this time on a job is asked about before it begins, even where it costs nothing."""
UNMEASURED = "time not known (no reply of this model has been measured in this store)"


def describe_estimate(found: CostEstimate) -> str:
    """Return an estimate as a sentence."""
    features = plural(round(found.features), "feature")
    if not found.calls:
        return f"{features}; nobody is asked, so it costs nothing."
    tokens = f"{count(round_to_three(found.tokens_in + found.tokens_out))} tokens"
    cost = "cost not known (no price for this model)" if found.cost is None else money(found.cost)
    how = "as its server counted before" if found.learned else "by rules of thumb"
    return (
        f"About {plural(round_to_three(found.calls), 'call')} and {tokens} for {features}: {cost}; "
        f"{time_of(found)}. Worked out on {plural(found.sampled, 'feature')}, tokens counted {how}."
    )


def time_of(found: CostEstimate) -> str:
    """Return how long it takes at the measured pace, or that this is not known."""
    if found.seconds is None:
        return UNMEASURED
    measured = f"{count(found.measured)} measured {'reply' if found.measured == 1 else 'replies'}"
    return f"about {duration(found.seconds)} at the pace of {measured}"


def round_to_three(n: float) -> int:
    """Round to three digits: an estimate deserves no more."""
    return int(float(f"{n:.3g}"))


def money(cost: float) -> str:
    """Return an amount in dollars, or that it is nothing."""
    return "free" if cost == 0 else f"${cost:,.4f}" if cost < 1 else f"${cost:,.2f}"

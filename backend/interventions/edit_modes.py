"""The table of edit modes (add, clamp, multiply, zero, orthogonal and others): formula, unit,
neutral strength, help text and function of each.

There are three kinds. A `shift` mode adds to an activation without reading it; a `code` mode sets
what an activation becomes; both change the stream by decode(f') - decode(f), so the error term
stays. A `direction` mode acts on the stream h itself along a feature's decoder direction. The
functions return differences and use only tensor methods, so pages can read this table without
torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

ModeKind = Literal["shift", "code", "direction"]
BasisKind = Literal["", "max", "mean", "slots", "posterior"]
Tensor = Any
"""A torch tensor; in this module's shapes n counts rows, k features, and d is the width."""


@dataclass(frozen=True)
class EditMode:
    """Edit mode such as `add` or `clamp`: formula, help text and function. The arguments of
    `change` depend on its kind.

    shift: (strength [n 1], basis [k]) -> difference of the activations [n k]; code: (f [n k],
    strength [n 1], basis) -> difference of the activations [n k]; direction: (h [n d], directions
    [k n|1 d], strength [n 1], percent) -> difference of h [n d].
    """

    kind: ModeKind
    formula: str
    """Formula of the edit: h is the stream, f the activation, d the decoder direction, v = d/‖d‖, s
    the strength."""
    unit: str
    help: str
    change: Callable[..., Tensor]
    neutral: float | None
    """Strength at which the edit changes nothing; None where there is none."""
    no_neutral: str = ""
    """Reason why the mode has no neutral strength."""
    usual: tuple[float, float] = (0.0, 1.0)
    """Range of a slider for the strength; other strengths are allowed."""
    basis: BasisKind = ""
    """Kind of reference values that the edit needs besides its strength."""
    pair: bool = False
    """Whether the mode takes exactly two features."""

    @property
    def takes_vector(self) -> bool:
        """Whether the mode works along any direction, without a dictionary that reads
        activations."""
        return self.kind == "direction" or (self.kind == "shift" and not self.basis)


def _add(s: Tensor, basis: Tensor) -> Tensor:
    """Return the activation difference of `add`: the strength."""
    return s


def _add_max(s: Tensor, maxima: Tensor) -> Tensor:
    """Return the activation difference of `add_max`: the strength times each feature's maximum."""
    return s * maxima


def _clamp(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    """Return the activation difference of `clamp`, which sets f to the strength."""
    return s - f


def _multiply(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    """Return the activation difference of `multiply`, which scales f by the strength."""
    return (s - 1) * f


def _zero(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    """Return the activation difference of `zero`, which removes a share of f."""
    return -s * f


def _towards(f: Tensor, s: Tensor, target: Tensor) -> Tensor:
    """Return the activation difference of `mean` and `resample`, which move f towards a target."""
    return s * (target - f)


def _swap(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    """Return the activation difference of `swap`, which exchanges two features' activations."""
    return s * (f.flip(-1) - f)


def _attenuate(f: Tensor, s: Tensor, densities: Tensor) -> Tensor:
    """Return the activation difference of `attenuate`: -s · f · P(concept | f), with firing rate ×
    normal density per class; `densities` is [k 7]."""
    prior, *classes = densities.unbind(-1)
    inside, outside = classes[:3], classes[3:]
    odds = _log_density(f, *inside) - _log_density(f, *outside) + prior.log() - (1 - prior).log()
    return -s * f * odds.sigmoid()


def _log_density(f: Tensor, rate: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """Return the log of firing rate × normal density at f, without the constant."""
    return rate.log() - sd.log() - ((f - mean) / sd).pow(2) / 2


def _unit(v: Tensor) -> Tensor:
    """Return vectors divided by their norms."""
    return v / v.norm(dim=-1, keepdim=True)


def _along(h: Tensor, u: Tensor) -> Tensor:
    """Return the component of h along the unit vector u, [n 1]."""
    return (h * u).sum(-1, keepdim=True)


def _rescale(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    """Return the stream difference of `orthogonal`, which rescales the component along the
    direction."""
    u = _unit(d)
    return ((s - 1) * _along(h, u) * u).sum(0)


def _cap(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    """Return the stream difference of `cap`, which limits the component along the direction."""
    u = _unit(d)
    found = _along(h, u)
    return ((found.minimum(s) - found) * u).sum(0)


def _norm_relative(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    """Return the stream difference of `norm_relative`, in proportion to each token's norm."""
    return (s * h.norm(dim=-1, keepdim=True) * _unit(d)).sum(0)


def _redirect(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    """Return the stream difference of `redirect`, which turns the component along one direction
    into another."""
    u = _unit(d)
    return s * _along(h, u[0]) * (u[1] - u[0])


def _sparse_shift(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    """Return the stream difference of `sparse_shift`: the largest components of the
    direction only."""
    n = max(1, round(d.shape[-1] * percent / 100))
    least = d.abs().topk(n, dim=-1).values[..., -1:]
    return (s * d * (d.abs() >= least)).sum(0).expand_as(h)


MODES: dict[str, EditMode] = {
    "add": EditMode(
        kind="shift",
        formula="h + s·d",
        unit="activation units",
        help="Adds the feature's direction, whether it fires or not.",
        change=_add,
        neutral=0.0,
        usual=(-20.0, 20.0),
    ),
    "add_max": EditMode(
        kind="shift",
        formula="h + s·max·d",
        unit="times the feature's maximum",
        help="Adds the direction in multiples of the feature's largest activation in the harvest.",
        change=_add_max,
        neutral=0.0,
        usual=(-5.0, 5.0),
        basis="max",
    ),
    "clamp": EditMode(
        kind="code",
        formula="f' = s",
        unit="activation units",
        help="Sets the activation to one value.",
        change=_clamp,
        neutral=None,
        no_neutral="a token is unchanged only where the activation has that value already",
        usual=(0.0, 20.0),
    ),
    "multiply": EditMode(
        kind="code",
        formula="f' = s·f",
        unit="times its own activation",
        help="Scales the activation where the feature fires; elsewhere nothing changes.",
        change=_multiply,
        neutral=1.0,
        usual=(-2.0, 5.0),
    ),
    "zero": EditMode(
        kind="code",
        formula="f' = (1 − s)·f",
        unit="share removed",
        help="Removes the feature's activation; strength 1 removes it fully.",
        change=_zero,
        neutral=0.0,
    ),
    "mean": EditMode(
        kind="code",
        formula="f' = f + s·(mean − f)",
        unit="share of the way",
        help="Moves the activation to its mean over all counted tokens; 1 goes all the way.",
        change=_towards,
        neutral=0.0,
        basis="mean",
    ),
    "resample": EditMode(
        kind="code",
        formula="f' = f + s·(value in another prompt − f)",
        unit="share of the way",
        help="Sets the activation to its value at the same position of another prompt.",
        change=_towards,
        neutral=0.0,
        basis="slots",
    ),
    "swap": EditMode(
        kind="code",
        formula="f1' = f1 + s·(f2 − f1), f2' = f2 + s·(f1 − f2)",
        unit="share of the way",
        help="Exchanges the activations of two features of one dictionary.",
        change=_swap,
        neutral=0.0,
        pair=True,
    ),
    "attenuate": EditMode(
        kind="code",
        formula="f' = f·(1 − s·P(concept | f))",
        unit="share of the posterior",
        help="Reduces an activation in proportion to the probability of the concept given the "
        "activation, fitted on texts with and without it. `zero` removes it fully.",
        change=_attenuate,
        neutral=0.0,
        basis="posterior",
    ),
    "orthogonal": EditMode(
        kind="direction",
        formula="h + (s − 1)·(h·v)·v",
        unit="times the component along the direction",
        help="Rescales the stream's component along the direction: 0 removes it, −1 reflects it.",
        change=_rescale,
        neutral=1.0,
        usual=(-1.0, 3.0),
    ),
    "cap": EditMode(
        kind="direction",
        formula="h + (min(h·v, s) − h·v)·v",
        unit="length along the direction",
        help="Limits the length of the stream along the direction to this value.",
        change=_cap,
        neutral=None,
        no_neutral="a token is unchanged only where its component is below that length",
        usual=(-10.0, 10.0),
    ),
    "norm_relative": EditMode(
        kind="direction",
        formula="h + s·‖h‖·v",
        unit="times the stream's norm",
        help="Adds the direction in proportion to the norm of the stream at each token.",
        change=_norm_relative,
        neutral=0.0,
        usual=(-1.0, 1.0),
    ),
    "redirect": EditMode(
        kind="direction",
        formula="h + s·((h·v1)·v2 − (h·v1)·v1)",
        unit="share of the way",
        help="Moves the component along the first feature's direction to the second's.",
        change=_redirect,
        neutral=0.0,
        pair=True,
    ),
    "sparse_shift": EditMode(
        kind="direction",
        formula="h + s·(d, its largest components only)",
        unit="activation units",
        help="Adds only the largest components of the direction, by the given percentage.",
        change=_sparse_shift,
        neutral=0.0,
        usual=(-20.0, 20.0),
    ),
}

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
    """Edit mode such as `add` or `clamp`: formula, help text, and the function that computes how an
    edit changes activations or the stream. The arguments of `change` depend on the mode's kind.

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
        """Whether the edit mode works along any direction (a steering vector), without a dictionary
        that reads activations."""
        return self.kind == "direction" or (self.kind == "shift" and not self.basis)


def _add(s: Tensor, basis: Tensor) -> Tensor:
    """Return the change of a feature's activation in edit mode `add`: the strength s, whatever the
    activation is."""
    return s


def _add_max(s: Tensor, maxima: Tensor) -> Tensor:
    """Return the change of a feature's activation in edit mode `add_max`: the strength s times the
    largest activation of the feature in the harvest."""
    return s * maxima


def _clamp(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    """Return the change of a feature's activation f in edit mode `clamp`, which sets it to the
    strength: s − f."""
    return s - f


def _multiply(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    """Return the change of a feature's activation f in edit mode `multiply`, which scales it by the
    strength: (s − 1) · f."""
    return (s - 1) * f


def _zero(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    """Return the change of a feature's activation f in edit mode `zero`, which removes the share s
    of it: −s · f."""
    return -s * f


def _towards(f: Tensor, s: Tensor, target: Tensor) -> Tensor:
    """Return the change of a feature's activation f in the edit modes `mean` and `resample`, which
    move it the share s of the way to a target (its mean, or its activation in another prompt): s ·
    (target − f)."""
    return s * (target - f)


def _swap(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    """Return the change of two features' activations in edit mode `swap`, which moves each the
    share s of the way to the other's."""
    return s * (f.flip(-1) - f)


def _attenuate(f: Tensor, s: Tensor, densities: Tensor) -> Tensor:
    """Return the change of a feature's activation f in edit mode `attenuate`: −s · f · P(concept |
    f), where each class, with and without the concept, has a firing rate × a normal density.
    `densities` [k 7] are the fields of ConceptPosterior."""
    prior, *classes = densities.unbind(-1)
    inside, outside = classes[:3], classes[3:]
    odds = _log_density(f, *inside) - _log_density(f, *outside) + prior.log() - (1 - prior).log()
    return -s * f * odds.sigmoid()


def _log_density(f: Tensor, rate: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """Return the logarithm of firing rate × normal density at the activation f, without the
    constant, for one class of `attenuate`."""
    return rate.log() - sd.log() - ((f - mean) / sd).pow(2) / 2


def _unit(v: Tensor) -> Tensor:
    """Return the directions of an edit scaled to length 1."""
    return v / v.norm(dim=-1, keepdim=True)


def _along(h: Tensor, u: Tensor) -> Tensor:
    """Return the component of the stream h along an edit's unit direction u, [n 1]."""
    return (h * u).sum(-1, keepdim=True)


def _rescale(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    """Return the change of the stream in edit mode `orthogonal`, which multiplies the stream's
    component along the direction by the strength."""
    u = _unit(d)
    return ((s - 1) * _along(h, u) * u).sum(0)


def _cap(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    """Return the change of the stream in edit mode `cap`, which limits the stream's component along
    the direction to the strength."""
    u = _unit(d)
    found = _along(h, u)
    return ((found.minimum(s) - found) * u).sum(0)


def _norm_relative(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    """Return the change of the stream in edit mode `norm_relative`: along the direction, as long as
    the strength times the norm of the stream at each token."""
    return (s * h.norm(dim=-1, keepdim=True) * _unit(d)).sum(0)


def _redirect(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    """Return the change of the stream in edit mode `redirect`, which turns its component along the
    first feature's direction into the second's."""
    u = _unit(d)
    return s * _along(h, u[0]) * (u[1] - u[0])


def _sparse_shift(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    """Return the change of the stream in edit mode `sparse_shift`: the strength times the
    direction, of which only the given percentage of largest components is kept."""
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

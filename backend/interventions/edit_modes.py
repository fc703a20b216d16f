"""Every way to edit, in one table: formula, unit, neutral strength, help, and the function.

Three kinds. `shift` adds to an activation without reading it; `code` says what an activation
becomes; both change the stream by decode(f') - decode(f), so that the error term stays. `direction`
acts on the stream h itself along a feature's decoder direction. Functions return differences and
use nothing but tensor methods, so that pages may read this table without torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

ModeKind = Literal["shift", "code", "direction"]
BasisKind = Literal["", "max", "mean", "slots", "posterior"]
Tensor = Any
"""torch's; rows n, features k, width d."""


@dataclass(frozen=True)
class EditMode:
    """One way to edit. What `change` takes depends on the kind:

    shift: (strength [n 1], basis [k]) -> difference of the activations [n k]
    code: (f [n k], strength [n 1], basis) -> difference of the activations [n k]
    direction: (h [n d], directions [k n|1 d], strength [n 1], percent) -> difference of h [n d]
    """

    kind: ModeKind
    formula: str
    """h the stream, f the activation, d the decoder direction, v = d/‖d‖, s the strength."""
    unit: str
    help: str
    change: Callable[..., Tensor]
    neutral: float | None
    """The strength that changes nothing."""
    no_neutral: str = ""
    """Why there is none."""
    usual: tuple[float, float] = (0.0, 1.0)
    """Where a slider may begin and end; other strengths are allowed."""
    basis: BasisKind = ""
    """What the edit must bring besides its strength."""
    pair: bool = False
    """Whether it takes exactly two features."""

    @property
    def takes_vector(self) -> bool:
        """Whether it works along any direction, without a dictionary that reads it."""
        return self.kind == "direction" or (self.kind == "shift" and not self.basis)


def _add(s: Tensor, basis: Tensor) -> Tensor:
    return s


def _add_max(s: Tensor, maxima: Tensor) -> Tensor:
    return s * maxima


def _clamp(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    return s - f


def _multiply(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    return (s - 1) * f


def _zero(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    return -s * f


def _towards(f: Tensor, s: Tensor, target: Tensor) -> Tensor:
    return s * (target - f)


def _swap(f: Tensor, s: Tensor, basis: Tensor) -> Tensor:
    return s * (f.flip(-1) - f)


def _attenuate(f: Tensor, s: Tensor, densities: Tensor) -> Tensor:
    """-s · f · P(concept | f), firing rate × normal density per class; `densities` is [k 7]."""
    prior, *classes = densities.unbind(-1)
    inside, outside = classes[:3], classes[3:]
    odds = _log_density(f, *inside) - _log_density(f, *outside) + prior.log() - (1 - prior).log()
    return -s * f * odds.sigmoid()


def _log_density(f: Tensor, rate: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    return rate.log() - sd.log() - ((f - mean) / sd).pow(2) / 2


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True)


def _along(h: Tensor, u: Tensor) -> Tensor:
    return (h * u).sum(-1, keepdim=True)


def _rescale(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    u = _unit(d)
    return ((s - 1) * _along(h, u) * u).sum(0)


def _cap(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    u = _unit(d)
    found = _along(h, u)
    return ((found.minimum(s) - found) * u).sum(0)


def _norm_relative(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    return (s * h.norm(dim=-1, keepdim=True) * _unit(d)).sum(0)


def _redirect(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
    u = _unit(d)
    return s * _along(h, u[0]) * (u[1] - u[0])


def _sparse_shift(h: Tensor, d: Tensor, s: Tensor, percent: float) -> Tensor:
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
        help="Holds the activation at one value.",
        change=_clamp,
        neutral=None,
        no_neutral="a token is unchanged only where the activation has that value already",
        usual=(0.0, 20.0),
    ),
    "multiply": EditMode(
        kind="code",
        formula="f' = s·f",
        unit="times its own activation",
        help="Makes the feature stronger or weaker where it fires; elsewhere nothing happens.",
        change=_multiply,
        neutral=1.0,
        usual=(-2.0, 5.0),
    ),
    "zero": EditMode(
        kind="code",
        formula="f' = (1 − s)·f",
        unit="share removed",
        help="Takes the feature away; 1 removes all of it.",
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
        help="Puts in what the feature had at the same position of another prompt.",
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
        help="Suppresses an activation as far as it speaks for the concept, by densities that were "
        "fitted on texts with and without it. Full masking is `zero`.",
        change=_attenuate,
        neutral=0.0,
        basis="posterior",
    ),
    "orthogonal": EditMode(
        kind="direction",
        formula="h + (s − 1)·(h·v)·v",
        unit="times what lies along the direction",
        help="Rescales the part of the stream along the direction: 0 removes it, −1 reflects it.",
        change=_rescale,
        neutral=1.0,
        usual=(-1.0, 3.0),
    ),
    "cap": EditMode(
        kind="direction",
        formula="h + (min(h·v, s) − h·v)·v",
        unit="length along the direction",
        help="Lets the stream reach no further than this along the direction.",
        change=_cap,
        neutral=None,
        no_neutral="a token is unchanged only where it does not reach so far",
        usual=(-10.0, 10.0),
    ),
    "norm_relative": EditMode(
        kind="direction",
        formula="h + s·‖h‖·v",
        unit="times the stream's own length",
        help="Adds the direction in proportion to the length of the stream at each token.",
        change=_norm_relative,
        neutral=0.0,
        usual=(-1.0, 1.0),
    ),
    "redirect": EditMode(
        kind="direction",
        formula="h + s·((h·v1)·v2 − (h·v1)·v1)",
        unit="share of the way",
        help="Turns what lies along the first feature's direction into the second's.",
        change=_redirect,
        neutral=0.0,
        pair=True,
    ),
    "sparse_shift": EditMode(
        kind="direction",
        formula="h + s·(d, its largest components only)",
        unit="activation units",
        help="Adds only the largest components of the direction: the stated percentage of them.",
        change=_sparse_shift,
        neutral=0.0,
        usual=(-20.0, 20.0),
    ),
}

"""The methods that find circuits: one file each, one line here.

A file has `run(engine, asked, tell) -> Circuit`: a LocalEngine, a `CircuitRequest`, and a function
that receives (done, total, note) and may raise to stop. It is imported where a model runs. With
`proof` it has `prove`, too.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A way to find a circuit."""

    module: str
    hint: str
    """In a line: what it finds."""
    targets: tuple[str, ...] = ("token",)
    """What it can explain: token, feature."""
    prompts: int = 1
    """How many it reads at once, at most."""
    baseline: bool = False
    """Whether nodes go to a baseline that one can choose."""
    proof: bool = False
    """Whether its file has `prove(engine, asked, circuit, tell)`: run by ablation what was found
    without, when it is cut to its budget."""


METHODS = {
    "sparse-features": Method(
        "app.circuits.methods.sparse_features",
        "features and error terms of all dictionaries by their effect on the target, with a proof "
        "by ablation",
        prompts=400,
        baseline=True,
    ),
    "attribution-graph": Method(
        "app.circuits.methods.attribution_graph",
        "direct effects through transcoders with attention and norms held still, by influence",
        proof=True,
    ),
    "weights": Method(
        "app.circuits.methods.weights",
        "paths that the weights alone connect, through transcoders and heads, with what the prompt "
        "brings to each step",
        targets=("token", "feature"),
        proof=True,
    ),
    "trace": Method(
        "app.circuits.methods.trace",
        "what a logit, a feature or an attention score is the sum of, down to earlier features, "
        "without patching",
        targets=("token", "feature"),
        proof=True,
    ),
    "head-codes": Method(
        "app.circuits.methods.head_codes",
        "attention heads whose codes tell prompts that show a behaviour from prompts in which it "
        "is not possible, one beside each; 5 to 10 of either",
        targets=(),
        prompts=400,
    ),
}

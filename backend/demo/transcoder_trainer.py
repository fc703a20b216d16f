"""Transcoder trainer of the demo: trains a transcoder of an MLP with BatchTopK (Bussmann et al.
2024), saved as a JumpReLU with one threshold.

BatchTopK keeps the k·rows largest activations of a batch, so tokens may differ in how many features
they need. The saved threshold is the moving average of the smallest kept activation over the last
batches. The decoder's rows have unit norm throughout.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from backend.demo.activations import shuffled_row_batches
from backend.demo.dictionary_plans import DemoDictionaryPlan
from backend.demo.sae_trainer import dictionary_metadata

BATCH_ROWS = 1024
LEARNING_RATE = 1.5e-3
DEAD_AFTER_BATCHES = 100
AUXILIARY_WEIGHT = 1 / 16


class Transcoder(nn.Module):
    """Transcoder of the demo while it is trained: maps an MLP's input x to its output y through
    `d_sae` features, in units of y's root-mean-square row norm."""

    def __init__(
        self,
        x: Float[Tensor, "token d_in"],
        y: Float[Tensor, "token d_out"],
        plan: DemoDictionaryPlan,
    ):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        decoder = torch.randn(plan.d_sae, y.shape[1], generator=generator)
        encoder = torch.randn(x.shape[1], plan.d_sae, generator=generator)
        self.W_dec = nn.Parameter(decoder / decoder.norm(dim=1, keepdim=True))
        self.W_enc = nn.Parameter(encoder / x.shape[1] ** 0.5 / 10)
        self.b_enc = nn.Parameter(torch.zeros(plan.d_sae))
        self.b_dec = nn.Parameter(y.mean(0))

    def encode(self, x: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_sae"]:
        """Return the transcoder's ReLU feature activations of rows of x, [row, d_sae]."""
        return torch.relu(x @ self.W_enc + self.b_enc)

    def normalise(self) -> None:
        """Scale the rows of the transcoder's decoder to unit norm."""
        with torch.no_grad():
            self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)


def train_transcoder(
    plan: DemoDictionaryPlan,
    x: Float[Tensor, "token d_in"],
    y: Float[Tensor, "token d_out"],
    folder: Path,
    tokens: int,
) -> None:
    """Train a demo transcoder on `tokens` random pairs of activations, an input from `x` and the
    output to predict from `y`, and save it as sae-lens' `jumprelu_transcoder`."""
    # In these units centred rows of y have root-mean-square norm 1: one learning rate fits all.
    unit = float(y.var(0).sum().sqrt())
    model = Transcoder(x, y / unit, plan)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.999))
    steps = tokens // BATCH_ROWS
    silent = torch.zeros(plan.d_sae)
    threshold = 0.0
    for step, rows in zip(
        range(steps), shuffled_row_batches(len(x), BATCH_ROWS, seed=0), strict=False
    ):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50, 0.05 + 3 * (1 - step / steps))
        acts = model.encode(x[rows])
        kept, smallest = batch_top_k(acts, plan.k)
        # The threshold that replaces BatchTopK after training is a moving average.
        threshold = smallest if step == 0 else 0.98 * threshold + 0.02 * smallest
        error = y[rows] / unit - kept @ model.W_dec - model.b_dec
        silent = torch.where((kept > 0).any(0), 0, silent + 1)
        loss = error.pow(2).sum(1).mean() + _auxiliary_loss(model, x[rows], error, silent)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        model.normalise()
    _save_transcoder(model, threshold, unit, x[:100_000], plan, folder)


def batch_top_k(
    acts: Float[Tensor, "row d_sae"], k: int
) -> tuple[Float[Tensor, "row d_sae"], float]:
    """Return the transcoder's feature activations with all but the k · rows largest of the whole
    batch set to 0 (BatchTopK), and the smallest activation that was kept."""
    smallest = acts.detach().flatten().topk(k * len(acts), sorted=False).values.min()
    return acts * (acts >= smallest), float(smallest)


def _auxiliary_loss(
    model: Transcoder, x: Tensor, error: Tensor, silent: Float[Tensor, "d_sae"]
) -> Tensor:
    """Return the auxiliary loss of the transcoder's silent features, which learn from the other
    features' reconstruction error (Gao et al. 2024, appendix A.2)."""
    dead = silent > DEAD_AFTER_BATCHES
    if not dead.any():
        return error.new_zeros(())
    pre = x @ model.W_enc[:, dead] + model.b_enc[dead]
    top = pre.topk(min(x.shape[1] // 2, int(dead.sum())), dim=1)
    acts = torch.zeros_like(pre).scatter(1, top.indices, top.values)
    return AUXILIARY_WEIGHT * (error.detach() - acts @ model.W_dec[dead]).pow(2).sum(1).mean()


def _save_transcoder(
    model: Transcoder,
    threshold: float,
    unit: float,
    x: Tensor,
    plan: DemoDictionaryPlan,
    folder: Path,
) -> None:
    """Save a trained transcoder as a JumpReLU transcoder. Activations are rescaled to the units of
    y, so that each is the norm of its contribution."""
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.transcoder import JumpReLUTranscoder, JumpReLUTranscoderConfig

    fires = model.encode(x).detach() > threshold
    config = JumpReLUTranscoderConfig(
        d_in=model.W_enc.shape[0],
        d_sae=plan.d_sae,
        d_out=model.W_dec.shape[1],
        apply_b_dec_to_input=False,
        metadata=SAEMetadata(
            **dictionary_metadata(plan),
            training_architecture="batchtopk",
            l0=float(fires.sum(1).float().mean()),
            num_dead_features=int((~fires.any(0)).sum()),
        ),
    )
    saved = JumpReLUTranscoder(config)
    with torch.no_grad():
        saved.W_enc.copy_(model.W_enc * unit)
        saved.b_enc.copy_(model.b_enc * unit)
        saved.W_dec.copy_(model.W_dec)
        saved.b_dec.copy_(model.b_dec * unit)
        saved.threshold.fill_(threshold * unit)
    folder.mkdir(parents=True, exist_ok=True)
    saved.save_model(folder)

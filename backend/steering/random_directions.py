"""Random directions for steering controls, from a model's own activations: differences of two real
tokens.

A Gaussian direction lies mostly where the model's activations never are, and has less effect than
its length suggests. The difference of two real activations lies where they are.
"""

import numpy as np
import torch

from backend.interventions.records import SteeringVector
from backend.model.counted_positions import pad_right, uncounted_token_ids
from backend.model.language_model import LanguageModel
from backend.steering.matched_controls import WANTED_CONTROLS
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile


@torch.inference_mode()
def draw_random_directions(
    lm: LanguageModel, file: HarvestFile, hook: str, n: int = WANTED_CONTROLS, *, seed: int = 0
) -> tuple[SteeringVector, ...]:
    """Draw `n` random unit directions at a hook point: normalised differences of activations at
    counted tokens.

    The tokens come from random pairs of the harvest's sequences. Raise InputError for a harvest
    with fewer than two sequences.
    """
    rng = np.random.default_rng([seed, n])
    numbers = file.rows("SELECT sequence FROM sequence ORDER BY sequence")["sequence"].to_numpy()
    if len(numbers) < 2:
        raise InputError("Random directions need at least two sequences in the harvest.")
    chosen = rng.choice(numbers, size=2 * n, replace=len(numbers) < 2 * n)
    uncounted = torch.tensor(sorted(uncounted_token_ids(lm.bos, lm.special_ids, {})))
    ends = []
    for begin in range(0, 2 * n, 8):
        batch = [
            file.sequences.tokens(int(direction))[: lm.n_ctx]
            for direction in chosen[begin : begin + 8]
        ]
        tokens, real = pad_right([list(map(int, direction)) for direction in batch])
        activations = lm.activations(tokens, [hook])[hook].double().cpu()
        counted = real & ~torch.isin(tokens, uncounted)
        for row, row_counted in zip(activations, counted, strict=True):
            positions = torch.nonzero(row_counted)[:, 0]
            if len(positions):
                ends.append(row[positions[int(rng.integers(len(positions)))]])
    pairs = zip(ends[::2], ends[1::2], strict=False)
    differences = [a - b for a, b in pairs if not torch.equal(a, b)]
    return tuple(
        SteeringVector(f"random {number}", hook, tuple((direction / direction.norm()).tolist()))
        for number, direction in enumerate(differences)
    )

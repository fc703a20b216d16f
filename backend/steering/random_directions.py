"""Random directions as a model's own activations know them: from one real token to another.

A Gaussian direction lies mostly where the model never goes, and does less than its length says. The
difference of two real activations lies where it does go.
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
    """`n` unit vectors at a hook point: normalised differences of counted tokens of two sequences
    of the harvest, all drawn at random. InputError for fewer than two sequences."""
    dice = np.random.default_rng([seed, n])
    numbers = file.rows("SELECT sequence FROM sequence ORDER BY sequence")["sequence"].to_numpy()
    if len(numbers) < 2:
        raise InputError("Random directions need at least two sequences in the harvest.")
    drawn = dice.choice(numbers, size=2 * n, replace=len(numbers) < 2 * n)
    out = torch.tensor(sorted(uncounted_token_ids(lm.bos, lm.special_ids, {})))
    ends = []
    for begin in range(0, 2 * n, 8):
        some = [file.sequences.tokens(int(one))[: lm.n_ctx] for one in drawn[begin : begin + 8]]
        tokens, real = pad_right([list(map(int, one)) for one in some])
        found = lm.activations(tokens, [hook])[hook].double().cpu()
        counted = real & ~torch.isin(tokens, out)
        for row, mine in zip(found, counted, strict=True):
            positions = torch.nonzero(mine)[:, 0]
            if len(positions):
                ends.append(row[positions[int(dice.integers(len(positions)))]])
    pairs = zip(ends[::2], ends[1::2], strict=False)
    apart = [a - b for a, b in pairs if not torch.equal(a, b)]
    return tuple(
        SteeringVector(f"random {number}", hook, tuple((one / one.norm()).tolist()))
        for number, one in enumerate(apart)
    )

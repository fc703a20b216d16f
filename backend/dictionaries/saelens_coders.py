"""Coders that keep the sae-lens object: architectures that are not one affine map and a rule.

The object's own normalisation and reshaping are switched off (they keep state between calls); what
remains is a pure function of weights and input.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.base import Precision, Triples
from backend.dictionaries.input_normalisation import return_unchanged
from backend.dictionaries.sparse_encoder import DENSE, dense_to_triples, join_triples

Sae = Any
"""sae-lens' SAE, which this module need not import."""


class SaeLensCoder:
    """Any sae-lens architecture through its own encode and decode."""

    needs_sequence = False

    def __init__(self, sae: Sae, *, signed: bool) -> None:
        sae.run_time_activation_norm_fn_in = return_unchanged
        sae.run_time_activation_norm_fn_out = return_unchanged
        sae.turn_off_forward_pass_hook_z_reshaping()
        self.sae = sae.requires_grad_(False).eval()
        self.signed = signed

    @property
    def W_dec(self) -> Float[Tensor, "d_sae d_out"]:
        return self.sae.W_dec.detach()

    @property
    def W_enc(self) -> None:
        return None

    def encode(self, z: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        return self.sae.encode(z)

    def decode(
        self, f: Float[Tensor, "... d_sae"], z: Float[Tensor, "... d_in"]
    ) -> Float[Tensor, "... d_out"]:
        return self.sae.decode(f)

    def encode_sparse(self, z: Float[Tensor, "... d_in"], precision: Precision) -> Triples:
        """In tiles of sae-lens' dense code; `precision` has nothing to speed up here."""
        x = z.flatten(0, -2)
        rows = max(1, DENSE // len(self.W_dec))
        tiles = []
        for first in range(0, len(x), rows):
            found = dense_to_triples(self.encode(x[first : first + rows]))
            tiles.append(found._replace(token=found.token + first))
        return join_triples(tiles, x)


class TemporalCoder(SaeLensCoder):
    """Temporal SAEs (arXiv:2511.01836): features code what attention over earlier tokens missed.

    What attention predicts depends on x alone, so it belongs to `decode` and no edit changes it.
    """

    needs_sequence = True

    def __init__(self, sae: Sae) -> None:
        super().__init__(sae, signed=False)

    def encode(self, z: Float[Tensor, "... pos d_in"]) -> Float[Tensor, "... pos d_sae"]:
        return self._both(z)[0]

    def decode(
        self, f: Float[Tensor, "... pos d_sae"], z: Float[Tensor, "... pos d_in"]
    ) -> Float[Tensor, "... pos d_out"]:
        cfg = self.sae.cfg
        out = (f + self._both(z)[1]) @ self.W_dec
        biased = not getattr(cfg, "tied_weights", True) or cfg.apply_b_dec_to_input
        return out + self.sae.b_dec if biased else out

    def encode_sparse(self, z: Float[Tensor, "... pos d_in"], precision: Precision) -> Triples:
        sequences = z.reshape(-1, *z.shape[-2:])
        length = sequences.shape[1]
        several = max(1, DENSE // (len(self.W_dec) * max(1, length)))
        tiles = []
        for first in range(0, len(sequences), several):
            code = self.encode(sequences[first : first + several]).flatten(0, 1)
            found = dense_to_triples(code)
            tiles.append(found._replace(token=found.token + first * length))
        return join_triples(tiles, z)

    def _both(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(novel, predicted) codes in z's own leading shape; two axes are one sequence."""
        sequences = z.reshape(-1, *z.shape[-2:])
        novel, predicted = self.sae.encode_with_predictions(sequences)
        shape = (*z.shape[:-1], novel.shape[-1])
        return novel.reshape(shape), predicted.reshape(shape)

"""Coders that call a sae-lens SAE object, for architectures that are not an affine map with an
activation rule.

The normalisation and reshaping of the sae-lens object are switched off, since they keep state
between calls. What remains is a pure function of weights and input.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from backend.dictionaries.base import Precision, Triples
from backend.dictionaries.input_normalisation import return_unchanged
from backend.dictionaries.sparse_encoder import DENSE, dense_to_triples, join_triples

Sae = Any
"""SAE class of sae-lens, whose objects these coders call; this module need not import it."""


class SaeLensCoder:
    """Coder that uses the encode and decode of any sae-lens architecture."""

    needs_sequence = False

    def __init__(self, sae: Sae, *, signed: bool) -> None:
        sae.run_time_activation_norm_fn_in = return_unchanged
        sae.run_time_activation_norm_fn_out = return_unchanged
        sae.turn_off_forward_pass_hook_z_reshaping()
        self.sae = sae.requires_grad_(False).eval()
        self.signed = signed

    @property
    def W_dec(self) -> Float[Tensor, "d_sae d_out"]:
        """Decoder matrix of the sae-lens object, [d_sae d_out]."""
        return self.sae.W_dec.detach()

    @property
    def W_enc(self) -> None:
        """None, since the encoder of a wrapped sae-lens architecture is not a linear map."""
        return None

    def encode(self, z: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        """Return the dense activations that the sae-lens object computes."""
        return self.sae.encode(z)

    def decode(
        self, f: Float[Tensor, "... d_sae"], z: Float[Tensor, "... d_in"]
    ) -> Float[Tensor, "... d_out"]:
        """Return the reconstruction that the sae-lens object computes; z is not used."""
        return self.sae.decode(f)

    def encode_sparse(self, z: Float[Tensor, "... d_in"], precision: Precision) -> Triples:
        """Return the non-zero feature activations of any sae-lens architecture as triples, from its
        dense code, a tile of tokens at a time; `precision` has no effect here."""
        x = z.flatten(0, -2)
        rows = max(1, DENSE // len(self.W_dec))
        tiles = []
        for first in range(0, len(x), rows):
            found = dense_to_triples(self.encode(x[first : first + rows]))
            tiles.append(found._replace(token=found.token + first))
        return join_triples(tiles, x)


class TemporalCoder(SaeLensCoder):
    """Coder of temporal SAEs (arXiv:2511.01836), whose features encode the part of an activation
    that attention over earlier tokens does not predict.

    The part that attention predicts depends on x alone, so it belongs to `decode`, and no edit of
    features changes it.
    """

    needs_sequence = True

    def __init__(self, sae: Sae) -> None:
        super().__init__(sae, signed=False)

    def encode(self, z: Float[Tensor, "... pos d_in"]) -> Float[Tensor, "... pos d_sae"]:
        """Return the temporal SAE's feature activations [..., pos, d_sae], which encode what
        attention to earlier tokens does not predict of each token's activation."""
        return self._both(z)[0]

    def decode(
        self, f: Float[Tensor, "... pos d_sae"], z: Float[Tensor, "... pos d_in"]
    ) -> Float[Tensor, "... pos d_out"]:
        """Return the temporal SAE's reconstruction from the feature activations f and the
        activations that attention to earlier tokens predicts from z."""
        cfg = self.sae.cfg
        out = (f + self._both(z)[1]) @ self.W_dec
        biased = not getattr(cfg, "tied_weights", True) or cfg.apply_b_dec_to_input
        return out + self.sae.b_dec if biased else out

    def encode_sparse(self, z: Float[Tensor, "... pos d_in"], precision: Precision) -> Triples:
        """Return the non-zero feature activations of a temporal SAE as triples, from whole
        sequences, a few at a time."""
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
        """Return a temporal SAE's feature activations in two parts, (not predicted, predicted) by
        attention to earlier tokens, with z's own leading axes; a z of two axes is one sequence."""
        sequences = z.reshape(-1, *z.shape[-2:])
        novel, predicted = self.sae.encode_with_predictions(sequences)
        shape = (*z.shape[:-1], novel.shape[-1])
        return novel.reshape(shape), predicted.reshape(shape)

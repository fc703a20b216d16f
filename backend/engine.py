"""The live side: one model with a harvest's dictionaries, for texts that a person types.

What the harvest stores is about its corpus; everything here is computed now, by the same encoders,
behind the model's one lock.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from backend import dictionaries as loaders
from backend import directions, neurons, sourcing
from backend.device import Placement, settle_threads
from backend.dictionaries.base import Dictionary
from backend.live import Firing, Sources, Text, Weights
from backend.lm import Lm
from backend.positions import uncounted_ids
from backend.removal import removal
from feature_store.errors import InputError, pick
from feature_store.reader import HarvestFile
from feature_store.records import Context, FeatureId
from feature_store.removals import Removal


class LocalEngine:
    """The model and dictionaries of one harvest, in this process."""

    def __init__(self, lm: Lm, found: Mapping[str, Dictionary], *, bos: int | None) -> None:
        self.lm = lm
        self.dictionaries = dict(found)
        self.bos = bos

    @classmethod
    def load(
        cls, file: HarvestFile, places: Mapping[str, str], placement: Placement
    ) -> "LocalEngine":
        """The weights that the harvest was made with, from where this machine keeps them.

        Raises InputError when they are not known here, or are not the same any more.
        """
        record = file.record
        lm = Lm.load(place_of(record.model_hash, f"model {record.model}", places), placement)
        settle_threads(placement, lm.d_model)
        same(f"model {record.model}", lm.model_hash, record.model_hash)
        found: dict[str, Dictionary] = {}
        for name, info in file.dictionaries.items():
            spec = place_of(info.weights_hash, f"dictionary {name}", places)
            one = loaders.load(spec, name=name, placement=placement, width=lm.width)
            same(f"dictionary {name}", one.weights_hash, info.weights_hash)
            found[name] = one
        first = int(file.sequences.flat[0])
        return cls(lm, found, bos=first if first == lm.bos else None)

    def read(self, text: str) -> Text:
        """Tokenise; InputError for an empty text and for one beyond the model's context."""
        if not text:
            raise InputError("There is no text to read: type some.")
        ids = self.lm.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        tokens = [] if self.bos is None else [self.bos]
        tokens += ids["input_ids"]
        if len(tokens) > self.lm.n_ctx:
            raise InputError(
                f"The text has {len(tokens):,} tokens; {self.lm.name} reads at most "
                f"{self.lm.n_ctx:,} at once. Cut it."
            )
        return self.text(tokens)

    def text(self, token_ids: list[int]) -> Text:
        """Tokens that are known already, a stored sequence's for one."""
        left_out = uncounted_ids(self.lm.bos, self.lm.special_ids, {})
        return Text(token_ids, [token not in left_out for token in token_ids])

    @torch.inference_mode()
    def firing(self, text: Text, names: list[str]) -> dict[str, Firing]:
        """Activations of dictionaries on a text: one forward pass for all of them."""
        chosen = {name: pick("dictionary", name, self.dictionaries) for name in names}
        hooks = list(dict.fromkeys(one.hook_name for one in chosen.values()))
        processing = next(iter(chosen.values())).processing
        acts = self.lm.activations(torch.tensor([text.token_ids]), hooks, processing)
        found = {}
        for name, one in chosen.items():
            x = acts[one.hook_name]
            triples = one.encode_sparse(x if one.needs_sequence else x[0])
            found[name] = Firing(*(column.cpu().numpy() for column in triples))
        return found

    def weights(self, feature: FeatureId) -> Weights:
        """Which dimensions, neurons and heads a feature reads and writes."""
        return neurons.weights(self.lm, self._dictionary(feature), feature.index)

    def sources(self, feature: FeatureId, tokens: np.ndarray, peak: int) -> Sources:
        """A hook_z feature's pre-activation at a position of a sequence, by head and source token.

        InputError where that is not defined.
        """
        ids = torch.from_numpy(tokens.astype(np.int64))
        return sourcing.sources(self.lm, self._dictionary(feature), feature.index, ids, peak)

    def removal(self, feature: FeatureId, context: Context, tokens: np.ndarray) -> Removal:
        """What removing a feature changes in a stored context; `tokens` are its whole sequence."""
        one = self._dictionary(feature)
        ids = torch.from_numpy(tokens.astype(np.int64))
        left_out = uncounted_ids(self.lm.bos, self.lm.special_ids, one.metadata)
        return removal(
            self.lm, one, feature.index, ids, ~torch.isin(ids, torch.tensor(sorted(left_out))),
            sequence=context.sequence, window=(context.start, context.start + context.length),
            peak=context.peak,
        )  # fmt: skip

    def lens(self, feature: FeatureId) -> np.ndarray | None:
        """Its direct effect on the logit of every token of the vocabulary."""
        return directions.lens(self.lm, self._dictionary(feature), feature.index)

    def cosines(
        self, features: Sequence[FeatureId], side: directions.Side
    ) -> list[list[float | None]]:
        """Of each pair; None where the two live in different spaces."""
        return directions.cosines(self.lm, self.dictionaries, features, side)

    def nearest(
        self, feature: FeatureId, dictionary: str, n: int
    ) -> list[tuple[int, float]] | None:
        """The features of a dictionary that write most like one of any, with their cosines."""
        other = pick("dictionary", dictionary, self.dictionaries)
        return directions.nearest(self.lm, self._dictionary(feature), feature.index, other, n)

    def _dictionary(self, feature: FeatureId) -> Dictionary:
        return pick("dictionary", feature.dictionary, self.dictionaries)


def place_of(weights_hash: str, what: str, places: Mapping[str, str]) -> str:
    """Where weights lie, or an InputError."""
    if weights_hash not in places:
        raise InputError(
            f"This machine does not know where the {what} lies. Harvest with it once here, or "
            "harvest again."
        )
    return places[weights_hash]


def same(what: str, found: str, wanted: str) -> None:
    """InputError when weights changed since the harvest."""
    if found != wanted:
        raise InputError(
            f"The {what} has changed on disk since it was harvested, so live numbers would not "
            "belong to this harvest. Harvest it again."
        )

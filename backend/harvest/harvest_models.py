"""Models of a harvest: the language model itself, and the shuffled model (permuted weights) where a
null dictionary reads it."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from backend.dictionaries.base import Dictionary
from backend.dictionaries.site_activations import join_sites
from backend.model.language_model import LanguageModel
from backend.model.shuffled_model import shuffle_model
from backend.model.weight_processing import WeightProcessing
from feature_store.null_dictionaries import SHUFFLED


@dataclass(frozen=True)
class HarvestModels:
    """Language models of a harvest, and which of them each dictionary reads: the model itself, or
    its copy with shuffled weights, a control."""

    lm: LanguageModel
    shuffled: LanguageModel | None = None

    @classmethod
    def create(cls, lm: LanguageModel, nulls: Sequence[str], seed: int) -> "HarvestModels":
        """Create the models of a harvest. The shuffled model is made only where `nulls` asks for
        it."""
        return cls(lm, shuffle_model(lm, seed) if SHUFFLED in nulls else None)

    def model_for(self, dictionary: Dictionary) -> LanguageModel:
        """Return the model whose activations this dictionary reads: the harvest's own, or its
        shuffled copy."""
        return self._model_named(dictionary.writes[0].model)

    def _model_named(self, model: str) -> LanguageModel:
        """Return the model that a dictionary's read or write site names: the harvest's own, or its
        copy with shuffled weights."""
        if model != SHUFFLED:
            return self.lm
        assert self.shuffled is not None, "a harvest with such a dictionary has the model"
        return self.shuffled

    def activations(
        self,
        tokens: Int[Tensor, "batch pos"],
        dictionaries: Sequence[Dictionary],
        processing: WeightProcessing,
    ) -> list[Float[Tensor, "batch pos d_in"]]:
        """Return the activations that each dictionary reads, [batch, position, d_in], from one
        forward pass of every model that is needed."""
        sites = [site for dictionary in dictionaries for site in dictionary.reads]
        activations: dict[str, dict[str, Tensor]] = {}
        for model in dict.fromkeys(site.model for site in sites):
            hooks = list(dict.fromkeys(site.hook for site in sites if site.model == model))
            activations[model] = self._model_named(model).activations(tokens, hooks, processing)
        return [
            join_sites([activations[site.model][site.hook] for site in dictionary.reads])
            for dictionary in dictionaries
        ]

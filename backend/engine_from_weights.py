"""A model with its dictionaries from where their weights lie, without a store."""

from collections.abc import Mapping

from backend import dictionaries as loaders
from backend.dictionaries.base import Dictionary
from backend.engine import LocalEngine
from backend.evaluation.reconstruction_check import choose_bos_token
from backend.model.device import Placement, limit_cpu_threads
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError


def load_engine_from_weights(
    model: str,
    dictionaries: Mapping[str, str],
    placement: Placement,
    *,
    hashes: Mapping[str, str] | None = None,
    trust_remote_code: bool = False,
) -> LocalEngine:
    """`dictionaries`: name → a folder, RELEASE/ID or what else `dictionaries.load` takes.

    `hashes`: what the weights must be, by the dictionary's name and `model`'s own; InputError for
    others, and for what cannot be loaded.
    """
    wanted = hashes or {}
    lm = LanguageModel.load(model, placement, trust_remote_code=trust_remote_code)
    limit_cpu_threads(placement, lm.d_model)
    if model in wanted:
        _check_same_hash(f"model {lm.name}", lm.model_hash, wanted[model])
    found: dict[str, Dictionary] = {}
    for name, spec in dictionaries.items():
        found[name] = loaders.load(spec, name=name, placement=placement, width=lm.width)
        if name in wanted:
            _check_same_hash(f"dictionary {name}", found[name].weights_hash, wanted[name])
    return LocalEngine(lm, found, bos=choose_bos_token(lm, list(found.values())))


def _check_same_hash(what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise InputError(
            f"These are not the weights of the run: the {what} has the hash {found[:12]}…, and the "
            f"run had {wanted[:12]}…. Point to those, or take the check away."
        )

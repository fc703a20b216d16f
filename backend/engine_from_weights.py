"""Build an engine (a language model with its dictionaries) from the paths of the weights, without a
store."""

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
    """Load a model and its dictionaries from their paths and return them as a `LocalEngine`,
    without a store.

    `dictionaries` maps a name to a local folder, `RELEASE/ID` or any other specification that
    `backend.dictionaries.load` takes. `hashes` maps a dictionary's name, or `model` itself, to the
    hash that its weights must have. Raise InputError for weights with another hash and for weights
    that cannot be loaded.
    """
    expected = hashes or {}
    lm = LanguageModel.load(model, placement, trust_remote_code=trust_remote_code)
    limit_cpu_threads(placement, lm.d_model)
    if model in expected:
        _check_same_hash(f"model {lm.name}", lm.model_hash, expected[model])
    loaded: dict[str, Dictionary] = {}
    for name, spec in dictionaries.items():
        loaded[name] = loaders.load(spec, name=name, placement=placement, width=lm.width)
        if name in expected:
            _check_same_hash(f"dictionary {name}", loaded[name].weights_hash, expected[name])
    return LocalEngine(lm, loaded, bos=choose_bos_token(lm, list(loaded.values())))


def _check_same_hash(subject: str, actual: str, expected: str) -> None:
    if actual != expected:
        raise InputError(
            f"These are not the weights of the run: the {subject} has the hash {actual[:12]}…, but "
            f"the run used {expected[:12]}…. Give the path of those weights, or leave `hashes` out."
        )

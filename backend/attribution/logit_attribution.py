"""Gradient × activation: what each feature of a text adds to a chosen next token, to first order.

The number is the target's logit less the mean over the vocabulary, at one position. Its derivative
by a feature's activation goes through the feature's decoder row and everything above it, attention
patterns and norms included; one backward pass serves all dictionaries.
"""

from collections.abc import Mapping

from jaxtyping import Bool, Float, Int
from torch import Tensor

from backend.attribution.dictionary_activations import read_dictionary_activations
from backend.attribution.hook_gradients import compute_hook_gradients
from backend.attribution.target_metric import tokenize_single_token_answer
from backend.dictionaries.base import Dictionary
from backend.engine_protocol import TextActivations
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError


def attribute_logit_to_features(
    lm: LanguageModel,
    chosen: Mapping[str, Dictionary],
    tokens: Int[Tensor, "pos"],
    counted: Bool[Tensor, "pos"],
    target: int,
    at: int,
) -> dict[str, TextActivations]:
    """Per dictionary, activation × derivative (in logits) of each feature active at a counted
    position; ordered as activations are."""

    def metric(logits: Float[Tensor, "batch pos vocab"]) -> Float[Tensor, "batch"]:
        here = logits[:, at].float()
        return here[:, target] - here[:, : lm.n_nameable].mean(-1)

    readings = read_dictionary_activations(lm, list(chosen.values()), tokens[None], counted[None])
    hooks = list(dict.fromkeys(one.dictionary.hook_out for one in readings))
    found = compute_hook_gradients(lm, tokens[None], hooks, metric)
    result = {}
    for name, one in zip(chosen, readings, strict=True):
        slope = one.dots(found.by[one.dictionary.hook_out])
        columns = (one.active.position, one.active.feature, one.active.value * slope)
        result[name] = TextActivations(*(column.detach().cpu().numpy() for column in columns))
    return result


def find_target_token(lm: LanguageModel, before: list[int], answer: str) -> int:
    """The one token that `answer` is after these tokens; a word may leave its space out.

    InputError where it is several tokens, with or without the space.
    """
    plain = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    prompt = str(lm.tokenizer.decode(before, **plain))
    try:
        return tokenize_single_token_answer(lm.tokenizer, prompt, answer)
    except InputError:
        if answer[:1].isspace():
            raise
        try:
            return tokenize_single_token_answer(lm.tokenizer, prompt, f" {answer}")
        except InputError as spaced:
            raise spaced from None

"""Attribution of a chosen next token's logit to the features of a text, by gradient × activation
(first order).

The attributed value is the target's logit less the mean over the vocabulary, at one position. Its
derivative by a feature's activation goes through the feature's decoder row and everything after it,
attention patterns and norms included; one backward pass serves all dictionaries.
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
    """Attribute a target token's logit at position `at`, less the mean logit, to the active
    features of each dictionary at the tokens that count (not BOS or special tokens).

    The result has, by dictionary, each active feature's activation × derivative, in logits, ordered
    by position and feature.
    """

    def metric(logits: Float[Tensor, "batch pos vocab"]) -> Float[Tensor, "batch"]:
        position_logits = logits[:, at].float()
        return position_logits[:, target] - position_logits[:, : lm.n_nameable].mean(-1)

    readings = read_dictionary_activations(lm, list(chosen.values()), tokens[None], counted[None])
    hooks = list(dict.fromkeys(reading.dictionary.hook_out for reading in readings))
    slopes = compute_hook_gradients(lm, tokens[None], hooks, metric)
    result = {}
    for name, reading in zip(chosen, readings, strict=True):
        slope = reading.feature_gradients(slopes.gradients[reading.dictionary.hook_out])
        columns = (reading.active.position, reading.active.feature, reading.active.value * slope)
        result[name] = TextActivations(*(column.detach().cpu().numpy() for column in columns))
    return result


def find_target_token(lm: LanguageModel, before: list[int], answer: str) -> int:
    """Return the id of the single token that the text `answer` becomes after the tokens `before`;
    its logit is the target of a logit attribution.

    A word may omit its leading space. Raises InputError where the answer is several tokens, with or
    without the space.
    """
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    prompt = str(lm.tokenizer.decode(before, **options))
    try:
        return tokenize_single_token_answer(lm.tokenizer, prompt, answer)
    except InputError:
        if answer[:1].isspace():
            raise
        try:
            return tokenize_single_token_answer(lm.tokenizer, prompt, f" {answer}")
        except InputError as error:
            raise error from None

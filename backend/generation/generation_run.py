"""Run a steering request: tokenize its prompt, stream its texts, and turn out-of-memory errors into
messages. Used by pages, commands and scripts.
"""

import gc
import threading
from collections.abc import Generator, Mapping

import torch

from backend.dictionaries.base import Dictionary
from backend.generation.prompt_tokenization import PromptTokens, tokenize_chat, tokenize_text
from backend.generation.records import GenerationRecord
from backend.generation.steering_request import SteeringRequest
from backend.generation.token_stream import StreamOptions, stream_tokens
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError


def tokenize_prompt(lm: LanguageModel, request: SteeringRequest) -> PromptTokens:
    """Tokenize the prompt of a generation run, plain text or chat, as its steering request says.
    Raises InputError if it is empty or too long.
    """
    if isinstance(request.prompt, str):
        return tokenize_text(lm, request.prompt, bos=request.bos)
    return tokenize_chat(lm, [{"role": t["role"], "content": t["content"]} for t in request.prompt])


def generate_texts(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    request: SteeringRequest,
    *,
    stop: threading.Event | None = None,
    seconds: float | None = None,
) -> Generator[GenerationRecord, None, None]:
    """Run a steering request and yield the records of `token_stream.stream_tokens`; InputError is
    raised before anything is computed.

    If the device runs out of memory, the run ends with InputError and its memory is freed.
    """
    extras = StreamOptions(watch=request.watched, freeze=request.freeze, top=request.top)
    start = tokenize_prompt(lm, request)
    records = stream_tokens(
        lm, dictionaries, start, request.rows, request.sampling, extras, stop=stop, seconds=seconds
    )
    return _report_out_of_memory(records, len(start.tokens))


def _report_out_of_memory(
    records: Generator[GenerationRecord, None, None], n_prompt: int
) -> Generator[GenerationRecord, None, None]:
    """Yield the records of a generation run; raise InputError with the prompt's length if the
    device runs out of memory.
    """
    try:
        yield from records
        return
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler, so that no traceback keeps the tensors alive.
    free_device_memory()
    raise InputError(
        f"The device ran out of memory with a prompt of {n_prompt:,} tokens, and the run's memory "
        "was freed. Shorten the prompt, ask for fewer tokens, or wait until others have finished."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception of a generation run means that the device is out of memory; the
    CPU's allocator has no error class of its own.
    """
    message = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "not enough memory" in message
        or ("can't allocate memory" in message)
    )


def free_device_memory() -> None:
    """Free the unreferenced memory of the device after a generation run has failed."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

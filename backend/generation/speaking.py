"""From a request to its texts: the one road of pages, command line, snippets and doing it again."""

import gc
import threading
from collections.abc import Generator, Mapping

import torch

from backend.dictionaries.base import Dictionary
from backend.generation.asked import Asked
from backend.generation.prompts import Start, chat, plain
from backend.generation.records import Record
from backend.generation.stream import Extras, generate
from backend.lm import Lm
from feature_store.errors import InputError


def begin(lm: Lm, asked: Asked) -> Start:
    """The prompt's tokens; InputError for an empty or over-long one."""
    if isinstance(asked.prompt, str):
        return plain(lm, asked.prompt, bos=asked.bos)
    return chat(lm, [{"role": t["role"], "content": t["content"]} for t in asked.prompt])


def speak(
    lm: Lm,
    dictionaries: Mapping[str, Dictionary],
    asked: Asked,
    *,
    stop: threading.Event | None = None,
    seconds: float | None = None,
) -> Generator[Record, None, None]:
    """The records of a run, as `stream.generate` gives them; InputError before anything runs.

    A model out of memory ends the run with an InputError; what it held is freed.
    """
    extras = Extras(watch=asked.watched, freeze=asked.freeze, top=asked.top)
    start = begin(lm, asked)
    records = generate(
        lm, dictionaries, start, asked.rows, asked.sampling, extras, stop=stop, seconds=seconds
    )
    return _within_memory(records, len(start.tokens))


def _within_memory(
    records: Generator[Record, None, None], n_prompt: int
) -> Generator[Record, None, None]:
    try:
        yield from records
        return
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    # outside the handler, so that no traceback keeps the tensors alive
    free()
    raise InputError(
        f"The device ran out of memory at a prompt of {n_prompt:,} tokens. What the run held is "
        "freed: shorten the prompt, ask for fewer tokens, or wait until others have finished."
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that; the CPU's allocator has no class of its own."""
    said = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "not enough memory" in said
        or ("can't allocate memory" in said)
    )


def free() -> None:
    """Give what nothing refers to any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

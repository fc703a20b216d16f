"""From a corpus to the sequences that a model is fed: tokens, cuts, splits, a budget."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from backend.corpus.documents import Corpus
from backend.corpus.layout import Packer, Run, block_runs, block_sequences, cut, whole_runs
from backend.corpus.plan import FACTS, SequencePlan
from backend.corpus.reading import Specials, TokenFile, Tokenizer
from backend.corpus.splits import FEW, sides
from backend.corpus.writing import PlanWriter
from backend.vocabulary import check_ids
from feature_store.errors import InputError

LOPSIDED = 0.1
"""A split with a smaller share of the counted tokens is worth a warning."""


def plan_sequences(
    corpus: Corpus,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    context_size: int,
    tokens: int,
    bos: int | None,
    special_ids: Iterable[int] = (),
    pack: bool = False,
    seed: int = 0,
    d_vocab: int | None = None,
) -> SequencePlan:
    """Read `corpus` until `tokens` counted tokens are laid out in sequences, and save the plan.

    Counted are all tokens but BOS (`bos`, at the front of each sequence; None for none) and
    `special_ids`. A sequence has up to `context_size` tokens, BOS included, of one document, or
    with `pack` of several of one split. A shorter corpus gives a shorter plan and a warning. A
    plan that was in `folder` is replaced.
    """
    _check_sizes(context_size, tokens, bos)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FACTS).unlink(missing_ok=True)
    specials = Specials(bos, special_ids)
    raw = folder / "documents.bin"
    facts = {
        "context_size": context_size,
        "packed": pack,
        "bos": bos,
        "special_ids": specials.ids,
        "corpus": corpus.name,
    }
    try:
        read = TokenFile(raw, corpus, tokenizer, specials)
        wanted = tokens
        while wanted:  # again only when gaps and dropped remainders left the plan short
            more = read.read_until(wanted)
            if d_vocab is not None:
                check_ids([read.largest], d_vocab)
            with PlanWriter(folder, specials, tokens) as writer:
                warnings = _lay_out(read, writer, context_size, pack, seed)
                wanted = read.counted + 2 * writer.left if writer.left and more else 0
                if not wanted:
                    facts["n_tokens"] = tokens - writer.left
                    facts["warnings"] = warnings + _shortcomings(read, writer, corpus.name, tokens)
                    writer.finish(read.ids, facts)
    finally:
        raw.unlink(missing_ok=True)
    return SequencePlan.load(folder)


def _check_sizes(context_size: int, tokens: int, bos: int | None) -> None:
    if tokens < 1:
        raise InputError(f"The number of tokens must be at least 1, not {tokens}.")
    least = 1 if bos is None else 2
    if context_size < least:
        raise InputError(
            f"context_size must be at least {least}, not {context_size}: BOS takes one position."
            if bos is not None
            else f"context_size must be at least {least}, not {context_size}."
        )


def _lay_out(
    read: TokenFile, writer: PlanWriter, context_size: int, pack: bool, seed: int
) -> list[str]:
    """Write the sequences of what was read, up to the budget; what the user should know."""
    room = context_size - (read.specials.bos is not None)
    runs, warnings = _runs(read, context_size, room, seed)
    packer = Packer(room)
    for parts, tokens in zip(runs, read.documents(), strict=True):
        for run in parts:
            for draft in packer.add(run, tokens) if pack else cut(run, tokens, room):
                writer.add(draft)
        if writer.left == 0:
            break
    for draft in packer.rest():
        writer.add(draft)
    if pack:
        warnings.append(
            "Documents are packed: tokens can attend across the border to the document before."
        )
    return warnings


def _runs(
    read: TokenFile, context_size: int, room: int, seed: int
) -> tuple[list[list[Run]], list[str]]:
    """The runs of every document (`layout.py`), by the rule for few documents or for many."""
    lengths = read.lengths()
    keys = read.groups.keys()
    side = sides(keys, lengths, seed)
    groups = len(np.unique(keys))
    if len(lengths) < FEW and not all(read.generated):
        block = block_sequences(lengths, room)
        runs = block_runs(lengths, side, block * room, context_size)
        whole = whole_runs(lengths, side)
        few = (
            f"Only {_of(len(lengths), 'document')}: both splits hold parts of the same ones, in "
            f"blocks of {_of(block, 'sequence')} with {context_size} tokens left out between."
        )
        pairs = zip(read.generated, whole, runs, strict=True)
        return [one if made else many for made, one, many in pairs], [few]
    warnings = []
    if groups < FEW:
        warnings.append(
            f"Only {_of(groups, 'group')} of documents that are not copies or of one template: "
            "the splits are few and uneven."
        )
    return whole_runs(lengths, side), warnings


def _shortcomings(read: TokenFile, writer: PlanWriter, name: str, tokens: int) -> list[str]:
    """What is worth knowing about the result; InputError when there is nothing at all."""
    total = sum(writer.counted)
    if total == 0:
        raise InputError(f"Corpus {name!r} gives no token to count.")
    found = []
    if writer.left:
        found.append(f"The corpus gave {total:,} tokens, fewer than the {tokens:,} asked for.")
    share = min(writer.counted) / total
    if share < LOPSIDED:
        split = ("explain", "score")[int(np.argmin(writer.counted))]
        found.append(f"Only {share:.1%} of the tokens are in split {split!r}.")
    if read.stray:
        found.append(f"{_of(read.stray, 'special token')} came from the corpus's own text.")
    return found


def _of(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")

"""Sequence planner: turns a corpus into the plan of token sequences that a model is fed: tokenise,
assign splits, cut or pack, until the token budget is reached."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from backend.corpus.document_splits import FEW_DOCUMENTS, assign_sides
from backend.corpus.documents import Corpus
from backend.corpus.plan_writer import PlanWriter
from backend.corpus.sequence_layout import (
    DocumentRun,
    SequencePacker,
    block_runs,
    cut_run,
    sequences_per_block,
    whole_document_runs,
)
from backend.corpus.sequence_plan import PLAN_FILE, SequencePlan
from backend.corpus.token_file import SpecialTokens, TokenFile, Tokenizer
from backend.model.vocabulary import check_token_ids
from feature_store.errors import InputError

MIN_SPLIT_SHARE = 0.1
"""Share of the counted tokens below which a split causes a warning."""


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
    """Plan sequences with `tokens` counted tokens of `corpus` and save the plan in `folder`,
    replacing an earlier one.

    All tokens are counted except BOS (`bos`, at the front of each sequence; None for no BOS) and
    `special_ids`. A sequence has up to `context_size` tokens, BOS included, of one document, or
    with `pack` of several documents of one split. A shorter corpus gives a shorter plan and a
    warning.
    """
    _check_sizes(context_size, tokens, bos)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).unlink(missing_ok=True)
    specials = SpecialTokens(bos, special_ids)
    raw = folder / "documents.bin"
    facts = {
        "context_size": context_size,
        "packed": pack,
        "bos": bos,
        "special_ids": specials.ids,
        "corpus": corpus.name,
    }
    try:
        token_file = TokenFile(raw, corpus, tokenizer, specials)
        target = tokens
        while target:  # repeated only where gaps and dropped remainders left the plan short
            has_more = token_file.read_until(target)
            if d_vocab is not None:
                check_token_ids([token_file.largest], d_vocab)
            with PlanWriter(folder, specials, tokens) as writer:
                warnings = _write_sequences(token_file, writer, context_size, pack, seed)
                target = token_file.counted + 2 * writer.left if writer.left and has_more else 0
                if not target:
                    facts["n_tokens"] = tokens - writer.left
                    facts["warnings"] = warnings + _describe_shortcomings(
                        token_file, writer, corpus.name, tokens
                    )
                    writer.finish(token_file.ids, facts)
    finally:
        raw.unlink(missing_ok=True)
    return SequencePlan.load(folder)


def _check_sizes(context_size: int, tokens: int, bos: int | None) -> None:
    """Raise InputError where the number of tokens or the context size of a plan is too small."""
    if tokens < 1:
        raise InputError(f"The number of tokens must be at least 1, not {tokens}.")
    least = 1 if bos is None else 2
    if context_size < least:
        raise InputError(
            f"context_size must be at least {least}, not {context_size}: BOS takes one position."
            if bos is not None
            else f"context_size must be at least {least}, not {context_size}."
        )


def _write_sequences(
    token_file: TokenFile, writer: PlanWriter, context_size: int, pack: bool, seed: int
) -> list[str]:
    """Write the sequences of the documents read so far, up to the token budget. Returns warnings
    for the user."""
    room = context_size - (token_file.specials.bos is not None)
    runs, warnings = _divide_into_runs(token_file, context_size, room, seed)
    packer = SequencePacker(room)
    for parts, tokens in zip(runs, token_file.documents(), strict=True):
        for run in parts:
            for draft in packer.add(run, tokens) if pack else cut_run(run, tokens, room):
                writer.add(draft)
        if writer.left == 0:
            break
    for draft in packer.finish():
        writer.add(draft)
    if pack:
        warnings.append(
            "Documents are packed: tokens can attend across the border to the previous document."
        )
    return warnings


def _divide_into_runs(
    token_file: TokenFile, context_size: int, room: int, seed: int
) -> tuple[list[list[DocumentRun]], list[str]]:
    """Return the runs of every document (see `sequence_layout`) by the rule for few documents or
    for many, and warnings for the user."""
    lengths = token_file.lengths()
    keys = token_file.groups.keys()
    side = assign_sides(keys, lengths, seed)
    groups = len(np.unique(keys))
    if len(lengths) < FEW_DOCUMENTS and not all(token_file.generated):
        block = sequences_per_block(lengths, room)
        runs = block_runs(lengths, side, block * room, context_size)
        whole_runs = whole_document_runs(lengths, side)
        warning = (
            f"Only {_count_noun(len(lengths), 'document')}: both splits hold parts of the same "
            f"documents, in blocks of {_count_noun(block, 'sequence')} separated by gaps of "
            f"{context_size} tokens."
        )
        pairs = zip(token_file.generated, whole_runs, runs, strict=True)
        return [one if generated else many for generated, one, many in pairs], [warning]
    warnings = []
    if groups < FEW_DOCUMENTS:
        warnings.append(
            f"Only {_count_noun(groups, 'group')} of documents once copies and texts of one "
            "template are joined: the splits are coarse and uneven."
        )
    return whole_document_runs(lengths, side), warnings


def _describe_shortcomings(
    token_file: TokenFile, writer: PlanWriter, name: str, tokens: int
) -> list[str]:
    """Return sentences about a plan's shortcomings: too few tokens, uneven splits, stray special
    tokens. Raises InputError where there is no token at all."""
    total = sum(writer.counted)
    if total == 0:
        raise InputError(
            f"Corpus {name!r} contains no token that counts: only BOS and special tokens."
        )
    sentences = []
    if writer.left:
        sentences.append(f"The corpus gave {total:,} tokens, fewer than the {tokens:,} requested.")
    share = min(writer.counted) / total
    if share < MIN_SPLIT_SHARE:
        split = ("explain", "score")[int(np.argmin(writer.counted))]
        sentences.append(f"Only {share:.1%} of the tokens are in split {split!r}.")
    if token_file.stray:
        sentences.append(
            f"{_count_noun(token_file.stray, 'special token')} came from the corpus's own text."
        )
    return sentences


def _count_noun(n: int, noun: str) -> str:
    """Return a number with its noun for a warning about the plan, plural where needed: `1
    document`, `2 documents`."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")

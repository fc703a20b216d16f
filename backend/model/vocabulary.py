"""Vocabulary of a tokenizer: the exact bytes of every token id."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from feature_store.errors import InputError
from feature_store.strict_json import dump_json, parse_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def count_nameable_tokens(tokenizer: "PreTrainedTokenizerBase", d_vocab: int) -> int:
    """Count the token ids of a model's vocabulary, from 0, that the tokenizer can name.

    Embeddings are often padded to a round number of rows (Pythia, Qwen): no text contains the ids
    beyond, and the weights of these ids are meaningless. Ids that a tokenizer skips in between
    are counted.
    """
    return min(d_vocab, 1 + max(tokenizer.get_vocab().values(), default=-1))


def check_token_ids(ids: Sequence[int], d_vocab: int) -> None:
    """Raise InputError when a tokenizer gives a token id that is not in the model's vocabulary."""
    largest = max(ids, default=0)
    if largest >= d_vocab:
        raise InputError(
            f"The tokenizer gives token id {largest}, but the model has only {d_vocab} tokens; "
            "use the model's own tokenizer."
        )


def vocabulary_bytes(tokenizer: "PreTrainedTokenizerBase", d_vocab: int) -> list[bytes]:
    """Return the bytes that each of the first `d_vocab` token ids of a vocabulary stands for inside
    a text.

    Byte-level vocabularies spell bytes as letters, SentencePiece ones write spaces as U+2581 and
    single bytes as `<0x0A>`; both are undone here. Ids beyond the tokenizer (padding of the
    embedding) are named by number.
    """
    decode = decode_byte_level_piece if is_byte_level(tokenizer) else decode_sentencepiece_piece
    added = {int(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()}
    n = count_nameable_tokens(tokenizer, d_vocab)
    pieces = tokenizer.convert_ids_to_tokens(list(range(n)))
    all_bytes = []
    for number in range(d_vocab):
        piece = pieces[number] if number < len(pieces) else None
        if number in added:
            all_bytes.append(added[number].encode())
        elif piece is None:
            all_bytes.append(f"<unused {number}>".encode())
        else:
            all_bytes.append(decode(piece))
    return all_bytes


def is_byte_level(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Return whether a tokenizer's vocabulary spells bytes as letters, as GPT-2's does."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return hasattr(tokenizer, "byte_decoder")
    return '"ByteLevel"' in dump_json(parse_json(backend.to_str(), nonfinite="keep").get("decoder"))


def byte_level_alphabet() -> dict[str, int]:
    """Return the letters that byte-level vocabularies write for bytes, as {letter: byte}.

    Printable Latin-1 characters stand for themselves, the other bytes in order for the letters from
    U+0100 on (Radford et al. 2019).
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [b for b in range(256) if b not in set(own)]
    letters = {chr(b): b for b in own}
    return letters | {chr(0x100 + n): b for n, b in enumerate(other)}


BYTE_LEVEL_ALPHABET = byte_level_alphabet()


def decode_byte_level_piece(piece: str) -> bytes:
    """Decode a vocabulary piece that spells bytes as letters: `Ġthe` → b" the"; letters outside the
    table (added tokens) keep their UTF-8."""
    return b"".join(
        bytes([BYTE_LEVEL_ALPHABET[letter]]) if letter in BYTE_LEVEL_ALPHABET else letter.encode()
        for letter in piece
    )


def decode_sentencepiece_piece(piece: str) -> bytes:
    """Decode a piece of a SentencePiece vocabulary: `▁the` → b" the", `<0x0A>` → b"\\n"; everything
    else is its UTF-8."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode()

"""Tokens of a circuit's prompts as text: what each token id stands for within a text."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from backend.circuits.records import CircuitPrompt
from backend.engine_protocol import TokenizedText
from backend.model.vocabulary import (
    decode_byte_level_piece,
    decode_sentencepiece_piece,
    is_byte_level,
)


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Return the text that each token id of a prompt stands for; a part of a character becomes
    U+FFFD."""
    added = {int(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()}
    decode = decode_byte_level_piece if is_byte_level(tokenizer) else decode_sentencepiece_piece
    found = []
    for token, piece in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
        known = added.get(int(token)) or (None if piece is None else str(piece))
        if known is None:
            found.append(f"<unused {token}>")
        elif int(token) in added:
            found.append(known)
        else:
            found.append(decode(known).decode("utf-8", errors="replace"))
    return found


def build_circuit_prompt(
    tokenizer: PreTrainedTokenizerBase, text: TokenizedText, answer: str = "", against: str = ""
) -> CircuitPrompt:
    """Build the prompt record of a circuit from a tokenized text; the record's text consists of the
    tokens that count (not BOS or other special tokens)."""
    texts = token_texts(tokenizer, text.token_ids)
    counted_texts = [word for word, counts in zip(texts, text.counted, strict=True) if counts]
    return CircuitPrompt(
        "".join(counted_texts).lstrip(), tuple(texts), tuple(text.token_ids), answer, against
    )

"""A prompt's tokens as text."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from backend.circuits.records import Prompt
from backend.live import Text
from backend.vocabulary import byte_level_piece, is_byte_level, sentencepiece_piece


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """What each token stands for inside a text; a part of a character shows as U+FFFD."""
    added = {int(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()}
    decode = byte_level_piece if is_byte_level(tokenizer) else sentencepiece_piece
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


def prompt_of(
    tokenizer: PreTrainedTokenizerBase, text: Text, answer: str = "", against: str = ""
) -> Prompt:
    """A text as a circuit's prompt. Its words are those of the counted tokens."""
    told = pieces(tokenizer, text.token_ids)
    shown = [word for word, counts in zip(told, text.counted, strict=True) if counts]
    return Prompt("".join(shown).lstrip(), tuple(told), tuple(text.token_ids), answer, against)

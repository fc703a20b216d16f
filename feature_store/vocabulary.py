"""Vocabulary of a harvest: the bytes of every token, and how tokens are displayed as text."""

import numpy as np


def decode_token(piece: bytes) -> str | None:
    """Return the text of a token's bytes, or None if they are only part of a character."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return None


class Vocabulary:
    """Vocabulary of a harvested model: the bytes of every token, and how tokens are displayed as
    text.

    A character that is spelled by several tokens is displayed on the first of them; the others show
    nothing. Bytes that form no character are displayed as `<0xE2>`.
    """

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self._texts = [decode_token(piece) for piece in pieces]
        self._plain = [text if text is not None else "" for text in self._texts]
        self._partial = np.array([text is None for text in self._texts], dtype=bool)

    def __len__(self) -> int:
        return len(self.pieces)

    def text(self, token_id: int) -> str:
        """Return the display text of one token on its own; for a token id outside the vocabulary,
        as in some old files, `<unused ID>`."""
        if token_id >= len(self._texts):
            return f"<unused {token_id}>"
        text = self._texts[token_id]
        return text if text is not None else escape_bytes(self.pieces[token_id])

    def display(self, token_ids: np.ndarray) -> list[str]:
        """Return the display text of each token of a sequence; joined, they are the sequence's
        text."""
        if not self._partial[token_ids].any():
            plain = self._plain
            return [plain[token] for token in token_ids.tolist()]
        return join_bytes([self.pieces[token] for token in token_ids.tolist()])


def join_bytes(pieces: list[bytes]) -> list[str]:
    """Decode tokens' bytes that may split characters: each character goes to the token in which
    it begins."""
    shown, i = [""] * len(pieces), 0
    while i < len(pieces):
        for span in range(1, min(5, len(pieces) - i + 1)):  # a character has four bytes at most
            text = decode_token(b"".join(pieces[i : i + span]))
            if text is not None:
                shown[i] = text
                i += span
                break
        else:
            shown[i] = escape_bytes(pieces[i])
            i += 1
    return shown


def escape_bytes(piece: bytes) -> str:
    """Return the display text of token bytes that form no character, such as `<0xE2>`."""
    text = piece.decode("utf-8", errors="surrogateescape")
    return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if "\udc80" <= c <= "\udcff" else c for c in text)

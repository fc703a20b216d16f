"""Vocabulary and token sequences of a harvest: the bytes of every token, how tokens are
displayed as text, and the token ids of every sequence, held once per process."""

import numpy as np
import pyarrow as pa


def decode_token(piece: bytes) -> str | None:
    """Return the text of a token's bytes, or None if they are only part of a character."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return None


class Vocabulary:
    """Vocabulary: the bytes of every token, and how tokens are displayed as text.

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
        """Return the display text of one token on its own; a token id outside the vocabulary, as
        in some old files, by number."""
        if token_id >= len(self._texts):
            return f"<unused {token_id}>"
        text = self._texts[token_id]
        return text if text is not None else escape_bytes(self.pieces[token_id])

    def display(self, token_ids: np.ndarray) -> list[str]:
        """Return one display text per token id; joined they are the text."""
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


class TokenSequences:
    """Token sequences as they were fed to the model: one flat array of token ids, and where each
    sequence begins."""

    def __init__(self, table: pa.Table) -> None:
        """Hold token sequences. `table` has the columns sequence, document, start, split,
        token_ids, in order."""
        lists = table.column("token_ids").combine_chunks()
        if isinstance(lists, pa.ChunkedArray):
            lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
        # from_dlpack, since pyarrow's to_numpy brings pandas in: a fifth of a second at first use
        self.offsets: np.ndarray = np.from_dlpack(lists.offsets).astype(np.int64)
        flat = np.from_dlpack(lists.values)
        self.flat: np.ndarray = flat.astype(np.uint16 if flat.max(initial=0) < 65536 else np.uint32)
        self.document: np.ndarray = concat_column(table, "document")
        self.start: np.ndarray = concat_column(table, "start")

    def __len__(self) -> int:
        return len(self.document)

    def tokens(self, sequence: int) -> np.ndarray:
        """Return the token ids of a sequence, including BOS, as a view."""
        return self.flat[self.offsets[sequence] : self.offsets[sequence + 1]]

    def window(self, sequence: int, start: int, length: int) -> np.ndarray:
        """Return the token ids of part of a sequence as a view, cut at the sequence's ends."""
        begin = self.offsets[sequence] + max(start, 0)
        return self.flat[begin : min(begin + length, self.offsets[sequence + 1])]


def concat_column(table: pa.Table, name: str) -> np.ndarray:
    """Return an Arrow column of numbers without missing values as one numpy array."""
    column = table.column(name).combine_chunks()
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return np.concatenate([np.from_dlpack(chunk) for chunk in chunks] or [np.empty(0, np.int32)])

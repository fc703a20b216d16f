"""Token sequences of a harvest: the token ids of every sequence as they were fed to the model, held
once per process."""

import numpy as np
import pyarrow as pa

from feature_store.arrow_arrays import concat_column


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

"""Arrow arrays: convert columns of Arrow tables to numpy arrays, without importing pandas."""

import numpy as np
import pyarrow as pa


def concat_column(table: pa.Table, name: str) -> np.ndarray:
    """Return an Arrow column of numbers without missing values as one numpy array."""
    column = table.column(name).combine_chunks()
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return np.concatenate([np.from_dlpack(chunk) for chunk in chunks] or [np.empty(0, np.int32)])


def flatten_list_column(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return all values of an Arrow list column in order, and the number of values in each row."""
    lists = table.column(name).combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
    # from_dlpack, since pyarrow's to_numpy brings pandas in: a fifth of a second at first use
    counts = np.diff(np.from_dlpack(lists.offsets))
    return np.from_dlpack(lists.flatten()), counts


def column_array(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return an Arrow column as a numpy array; missing values are NaN."""
    return column.to_numpy(zero_copy_only=False)

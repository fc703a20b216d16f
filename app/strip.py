"""A live text as the page's strip of tokens takes it: plain data, no Streamlit."""

from typing import Any

import numpy as np

from app.tokens import visible
from backend.live import Text
from feature_store.vocabulary import Vocabulary


def tokens(read: Text, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Each token's visible text, its id, and whether it counts."""
    texts = vocabulary.display(np.array(read.token_ids))
    return [
        {"text": visible(text), "id": token, "counted": counted, "breaks": "\n" in text}
        for text, token, counted in zip(texts, read.token_ids, read.counted, strict=True)
    ]

"""Corpora: where text comes from, how its documents are divided into splits, and the token
sequences that a model is fed.

Importing this package loads no torch. A harvest uses `open_corpora`, `check_corpus` and
`plan_sequences`.
"""

from backend.corpus.chat_template import chat_renderer
from backend.corpus.corpus_sources import check_corpus, open_corpora, open_corpus
from backend.corpus.document_splits import assign_splits
from backend.corpus.documents import SPLITS, Corpus, Document, Split
from backend.corpus.pretokenised_ids import token_decoder
from backend.corpus.sequence_plan import SequencePlan
from backend.corpus.sequence_planner import plan_sequences

__all__ = [
    "SPLITS",
    "Corpus",
    "Document",
    "SequencePlan",
    "Split",
    "assign_splits",
    "chat_renderer",
    "check_corpus",
    "open_corpora",
    "open_corpus",
    "plan_sequences",
    "token_decoder",
]

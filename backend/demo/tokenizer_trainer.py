"""Tokenizer trainer of the demo: a byte-level BPE tokenizer in which names, years and argument
names are single tokens."""

from pathlib import Path

from backend.demo.demo_texts import demo_documents
from backend.demo.dictionary_plans import CONTEXT_TOKENS
from backend.demo.task_generators import single_token_words
from feature_store.strict_json import dump_json, parse_json

VOCABULARY_SIZE = 3072
TRAINING_SEED = 0
BOS_TOKEN, PAD_TOKEN = "<s>", "<pad>"


def train_tokenizer(folder: Path, documents: int = 12_000) -> None:
    """Train the demo's BPE tokenizer on the first `documents` training documents and write it as a
    Hugging Face folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[BOS_TOKEN, PAD_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [document.text for document in demo_documents(TRAINING_SEED, documents)]
    # BPE merges frequent words completely, so words that must be single tokens are made frequent.
    texts += [" " + " ".join([word] * 3000) for word in single_token_words()]
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS_TOKEN} $A", special_tokens=[(BOS_TOKEN, bpe.token_to_id(BOS_TOKEN))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=BOS_TOKEN, pad_token=PAD_TOKEN, add_bos_token=True
    )
    fast.save_pretrained(folder)
    _complete_tokenizer_config(folder / "tokenizer_config.json")


def _complete_tokenizer_config(path: Path) -> None:
    """Add the tokenizer's class, BOS rule and maximum length to its configuration file, for every
    version of transformers."""
    config = parse_json(path.read_text())
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True}
    config["model_max_length"] = CONTEXT_TOKENS
    path.write_text(dump_json(config, indent=2) + "\n")

"""The demo's tokenizer: byte-level BPE; names, years and argument names are single tokens."""

from pathlib import Path

from backend.demo.corpus import demo_documents
from backend.demo.plan import CONTEXT
from backend.demo.tasks import single_tokens
from feature_store.strict_json import dump_json, parse_json

VOCABULARY = 3072
TRAINING_SEED = 0
BOS, PAD = "<s>", "<pad>"


def train_tokenizer(folder: Path, documents: int = 12_000) -> None:
    """Train on the first `documents` training documents and write a Hugging Face folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [document.text for document in demo_documents(TRAINING_SEED, documents)]
    # A frequent word is merged whole, so the words that must be single tokens are made frequent.
    texts += [" " + " ".join([word] * 3000) for word in single_tokens()]
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, bpe.token_to_id(BOS))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=BOS, pad_token=PAD, add_bos_token=True
    )
    fast.save_pretrained(folder)
    _name_the_class(folder / "tokenizer_config.json")


def _name_the_class(path: Path) -> None:
    """Say what every version of transformers reads, and that BOS is added."""
    config = parse_json(path.read_text())
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True}
    config["model_max_length"] = CONTEXT
    path.write_text(dump_json(config, indent=2) + "\n")

"""`python -m backend.demo.train` rebuilds the demo's weights: tokenizer, model, dictionaries, report.

A stage whose output exists is skipped, so an interrupted run goes on where it stopped; remove a
folder under `weights/` to train it again.
"""

import logging

import torch

from backend.demo import MODEL

log = logging.getLogger(__name__)

MODEL_TOKENS = 9_000_000


def main() -> None:
    torch.set_num_threads(1)  # for matrices this small, a second thread costs more than it brings
    if not (MODEL / "tokenizer.json").is_file():
        from backend.demo.tokenizer import train_tokenizer

        log.info("training the tokenizer")
        train_tokenizer(MODEL)
    if not (MODEL / "model.safetensors").is_file():
        from backend.demo.model import train_model

        log.info("training the model")
        train_model(MODEL, MODEL_TOKENS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main()

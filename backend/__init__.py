"""Backend: models, dictionaries, corpora and harvests; the only package that holds tensors."""

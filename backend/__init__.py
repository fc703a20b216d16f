"""The model side: models, dictionaries, corpora and the harvest. Everything that holds a tensor."""

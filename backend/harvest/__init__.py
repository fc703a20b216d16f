"""The harvest: one streaming pass of a corpus through a model and its dictionaries."""

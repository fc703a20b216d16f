"""Harvest: one streaming pass of a corpus through a language model and its dictionaries, which ends
in a harvest file with each feature's statistics and contexts."""

"""Automated interpretability: explain features in words and score the explanations, with language
models or token patterns, from stored text windows."""

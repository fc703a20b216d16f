"""Ablation: replace parts of a model (features, dictionaries, heads, MLPs) on given prompts and
measure how the target changes.
"""

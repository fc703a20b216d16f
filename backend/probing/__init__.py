"""Probing and SHIFT: train a logistic probe on a model's activations, rank the features it relies
on, and ablate those it should not rely on (Marks et al. 2024, §5).
"""

"""Evaluation of dictionaries: how well they reconstruct the activations of their model."""

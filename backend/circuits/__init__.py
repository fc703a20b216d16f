"""Circuits: which features a model's prediction runs through, found by several methods, and how
faithful a circuit is when everything else is ablated."""

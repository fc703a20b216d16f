"""Circuits: which features a behaviour runs through, and how well that stands up to ablation."""

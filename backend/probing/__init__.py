"""SHIFT: take from a probe the features that it should not rely on (Marks et al. 2024, §5)."""

"""The SHIFT page: what a probe relies on, and what it does without it."""

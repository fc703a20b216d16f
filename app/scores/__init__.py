"""Explanations and their scores as pages show them, and the jobs that make more of them."""

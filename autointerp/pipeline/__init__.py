"""Explaining and scoring many features: bounded in memory, begun again where they ended."""

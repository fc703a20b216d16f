"""Kept runs: keeping them, doing them again, and the parts of the Experiments page."""

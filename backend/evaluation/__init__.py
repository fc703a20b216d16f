"""Evaluation: see the files of this folder."""

"""Model: see the files of this folder."""

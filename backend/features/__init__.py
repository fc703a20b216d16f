"""Features: see the files of this folder."""

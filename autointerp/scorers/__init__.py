"""Ways to score a label, one file each."""

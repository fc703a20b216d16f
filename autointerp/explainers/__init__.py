"""Ways to explain a feature, one file each."""

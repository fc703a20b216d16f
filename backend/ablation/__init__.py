"""Take parts of the model away on given prompts, and see what changes."""

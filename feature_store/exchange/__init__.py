"""What leaves a store and what comes into it, as files: our own formats and those of others."""

"""Parts of the Contrast page."""

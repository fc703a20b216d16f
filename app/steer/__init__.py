"""Parts of the Steer page."""

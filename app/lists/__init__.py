"""Parts of the Lists page."""

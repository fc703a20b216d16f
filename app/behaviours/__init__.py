"""The Behaviours page: circuits in bulk, a cluster of predictions each."""

"""Tabs under the Steer page: dose and response, features from texts, directions from texts."""

"""Prediction clusters: next tokens that a model predicts well, grouped by the dictionary features
that they depend on.
"""

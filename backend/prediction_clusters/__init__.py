"""Circuits in bulk: next tokens that a model predicts well, grouped by the features behind them."""

"""Steering: directions and features to steer with, matched controls, and sweeps of the strength.

`sweep_results` needs no torch.
"""

"""Dose and response: one edit at many strengths, beside its controls. `results` needs no torch."""

"""Edits of a forward pass: what they are (records, modes), and what they do (plan, passes).

`records` and `modes` are plain and load without torch; the rest needs a model.
"""

"""Interventions: edits of a language model's forward pass, as records (`records`, `edit_modes`) and
at work (`edit_plan`, `edited_forward`).

`records` and `edit_modes` are plain data and load without torch; the other modules need a model.
"""

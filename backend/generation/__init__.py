"""Text under edits, token by token: records, sampling, the stream, and who may use the model when.

`records` loads without torch.
"""

"""Generation of text under edits: requests and records, token sampling, the token stream, and the
queue of visitors who share one model.

`records` and `steering_request` load without torch.
"""

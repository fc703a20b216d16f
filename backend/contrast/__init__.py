"""Which features tell two sets of texts apart: how often and how strongly they fire, and how sure.

`compare.contrast` puts it together. The unit is the document: one number a document and feature, so
that no text counts more for being long. Only `reading` needs torch.
"""

"""Contrast of two sets of texts: which features differ between them in how often and how strongly
they are active, with effect sizes, permutation tests and separation.

`text_set_contrast.contrast_text_sets` runs the whole analysis. The unit is the document: each
document gives each feature one number, so that a long text counts no more than a short one. Only
`document_encoding` needs torch.
"""

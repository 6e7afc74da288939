"""Synthetic training data: `renderer` renders text samples and `pages` renders pages with labelled lines.

`sources` provides fonts and texts. The package depends on the alphabet alone and imports no torch.
"""

"""Sources of the renderer: fonts, handwritten digits, word lists and texts, and the download of fonts."""

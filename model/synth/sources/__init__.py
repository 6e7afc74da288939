"""What the renderer draws with: typefaces, handwritten digits, texts."""

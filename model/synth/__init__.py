"""The renderer of training samples. Knows the alphabet, and no tensors."""

"""The CRNN itself: alphabet, configuration, layers, checkpoint files. Imports no other package of the model."""

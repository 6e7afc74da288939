"""The CRNN: alphabet, configuration, layers and checkpoint files. Imports no other package of the model."""

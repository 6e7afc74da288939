"""Training of the recogniser, the line detector and the language model. Imported by the command line only."""

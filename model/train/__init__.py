"""Training of the recogniser, the line detector and the language model; the commands import it, the service never."""

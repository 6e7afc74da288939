"""The HTTP service and the command line around the recogniser in ``model``."""

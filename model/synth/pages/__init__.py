"""Drawn pages with the positions of their lines, for the line detector."""

"""Uploaded bytes to upright images, and the document model of recognised text. Imports neither HTTP nor torch."""

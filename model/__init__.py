"""The recogniser: arrays in, text out; it knows nothing of HTTP."""

from model.beam import Decoding
from model.checkpoint import CheckpointError
from model.reader import Reader, load
from model.reading import Alternative, Character, Reading

__all__ = ["Alternative", "Character", "CheckpointError", "Decoding", "Reader", "Reading", "load"]

"""The recogniser: arrays in, text out; it knows nothing of HTTP."""

from model.checkpoint import CheckpointError
from model.reader import Character, Reader, Reading, load

__all__ = ["Character", "CheckpointError", "Reader", "Reading", "load"]

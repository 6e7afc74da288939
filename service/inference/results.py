"""Outcomes of batching: results, errors, batch reports and event hooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

ReadingT = TypeVar("ReadingT")


class BatchingError(Exception):
    """A job that is not read."""


class Overloaded(BatchingError):
    """There is no room, or the deadline cannot be met; ``retry_after`` is the expected wait in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"expected wait {retry_after:.1f} s")
        self.retry_after = retry_after


class Closed(BatchingError):
    """The batcher is draining and admits nothing."""


class Expired(BatchingError):
    """The deadline passed while the job was queued."""


class BatcherFailed(BatchingError):
    """The model thread has ended."""


class ModelLost(Exception):
    """The reader has failed permanently."""


def is_device_lost(error: Exception) -> bool:
    """Whether the device is lost to this process: torch raises AcceleratorError for a failed accelerator."""
    return isinstance(error, ModelLost) or type(error).__name__ == "AcceleratorError"


@dataclass(frozen=True)
class BatchedResult(Generic[ReadingT]):
    """A reading with the seconds it was queued and the seconds its batch took."""

    reading: ReadingT
    queue_time: float
    inference_time: float


@dataclass(frozen=True)
class BatchReport:
    """One batch that was read.

    ``columns`` is the sum of the width buckets in pixels; ``waits`` (per item) and ``duration`` are in seconds.
    """

    items: int
    columns: int
    waits: tuple[float, ...]
    duration: float


class BatcherHooks:
    """Batcher event hooks, called from the model threads. Defaults do nothing."""

    def batch(self, report: BatchReport) -> None:
        """Handle a batch that was read."""

    def dropped(self, reason: str) -> None:
        """Handle a job that left the queue unread; ``reason`` is ``expired`` or ``cancelled``."""

    def failed(self, items: int) -> None:
        """Handle an exception of the reader for a batch of ``items`` images."""

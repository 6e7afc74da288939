"""Interfaces of the recogniser and the line detector, and functions that load both.

The module itself imports neither the model nor torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from linewise.service.inference.queue import BatchReader, Pixels

if TYPE_CHECKING:
    from linewise.model import Decoding, FoundLine, PageSteps, Reading  # noqa: F401 - Reading is quoted below


@dataclass(frozen=True)
class ModelSpec:
    """Arguments of ``model.load``.

    ``weights`` is a checkpoint file, by default the shipped one. ``device`` is a torch device, by default a GPU if
    there is one.
    """

    weights: Path | None = None
    device: str | None = None
    precision: str = "auto"


class LineReader(BatchReader["Reading"], Protocol):
    """Interface of a recogniser, as ``model.Reader`` implements it."""

    @property
    def model_id(self) -> str:
        """Name of the model."""

    @property
    def revision(self) -> str:
        """Hash of the weights."""

    @property
    def device(self) -> object:
        """Device that the model runs on."""

    def decoding(
        self, alternatives: int, charset: str | None, charset_exclude: str, lexicon: Sequence[str] | None
    ) -> Decoding | None:
        """Return the decoding for these options; None for the default one. Raises ``ValueError``."""

    def warm_up(self) -> None:
        """Do the one-time work that would delay the first request."""


class PageFinder(Protocol):
    """Interface of a page reader without its recogniser, as ``model.Pages`` implements it."""

    def find(self, page: Pixels) -> list[FoundLine]:
        """Detect the lines of a page."""

    def steps(self, page: Pixels, found: Sequence[FoundLine], finds_orientation: bool = True) -> PageSteps:
        """Return a generator that yields images of lines, receives their readings and returns the page's reading.

        The page is turned as its text suggests if ``finds_orientation`` is set.
        """


def load_reader(spec: ModelSpec) -> LineReader:
    """Load a recogniser.

    Raises ``model.CheckpointError``, and ``ValueError`` for a precision that weights or processor do not support.
    """
    from linewise import model

    return model.load(spec.weights, spec.device, spec.precision)


def load_page_finder(reader: LineReader) -> PageFinder | None:
    """Load the page detector for a recogniser of this package; None for any other recogniser.

    Raises ``model.CheckpointError``.
    """
    from linewise import model

    return model.load_page_reader(reader=reader) if isinstance(reader, model.Reader) else None

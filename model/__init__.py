"""Text recognition as a library: image arrays in, text out. Independent of the service."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linewise.model.annotate import draw_words
    from linewise.model.decoding.options import Decoding
    from linewise.model.network.checkpoint import CheckpointError
    from linewise.model.network.config import ModelConfig
    from linewise.model.page.line_or_page import is_sure_line, likelier
    from linewise.model.page.pipeline import Pages, PageSteps
    from linewise.model.page.reader import PageReader, load_page_reader
    from linewise.model.page.results import FoundLine, PageLine, PageReading
    from linewise.model.recognition.passes import width_bucket
    from linewise.model.recognition.reader import Reader, load
    from linewise.model.recognition.results import Alternative, Character, Reading, Word

__all__ = [
    "Alternative",
    "Character",
    "CheckpointError",
    "Decoding",
    "FoundLine",
    "ModelConfig",
    "PageLine",
    "PageReader",
    "PageReading",
    "PageSteps",
    "Pages",
    "Reader",
    "Reading",
    "Word",
    "draw_words",
    "is_sure_line",
    "likelier",
    "load",
    "load_page_reader",
    "width_bucket",
]

_MODULES = {
    "annotate": ("draw_words",),
    "decoding.options": ("Decoding",),
    "network.checkpoint": ("CheckpointError",),
    "network.config": ("ModelConfig",),
    "page.line_or_page": ("is_sure_line", "likelier"),
    "page.pipeline": ("PageSteps", "Pages"),
    "page.reader": ("PageReader", "load_page_reader"),
    "page.results": ("FoundLine", "PageLine", "PageReading"),
    "recognition.passes": ("width_bucket",),
    "recognition.reader": ("Reader", "load"),
    "recognition.results": ("Alternative", "Character", "Reading", "Word"),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: importing torch takes seconds, and handling readings does not need it.

    Raises:
        AttributeError: there is no public name like that.
    """
    for module, names in _MODULES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Linewise: text recognition in images of lines and pages.

`load()` returns a `Reader`, `load_page_reader()` a reader of whole pages; `Client` calls a running service. Names are
computed or imported on first use: importing torch takes seconds, and finding the version as long as Python's start.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linewise.model import PageReader, PageReading, Reader, Reading, load, load_page_reader
    from linewise.service.client import AsyncClient, Client

    __version__: str

__all__ = [
    "AsyncClient",
    "Client",
    "PageReader",
    "PageReading",
    "Reader",
    "Reading",
    "__version__",
    "load",
    "load_page_reader",
]

# Idle threads of OpenMP sleep rather than spin, which would take the cores from other processes. OpenMP reads the
# setting once, when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The published builds of onnxruntime report their use to Microsoft, from 1.29 on also on Linux, unless this is set
# before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_CLIENT_NAMES = ("AsyncClient", "Client")


def __getattr__(name: str) -> Any:
    """Import a public name on first use.

    Raises:
        AttributeError: there is no public name like that.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        value = globals()[name] = _version()
        return value
    module = import_module("linewise.service.client" if name in _CLIENT_NAMES else "linewise.model")
    value = globals()[name] = getattr(module, name)
    return value


def _version() -> str:
    """Version of the installed package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("linewise")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0+unknown"

"""The Python client of the HTTP interface. Imports nothing else of the service."""

from linewise.service.client.client import (
    BATCH_BYTES,
    BATCH_IMAGES,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Alternative,
    AsyncClient,
    Character,
    Client,
    ImageSource,
    Line,
    Mode,
    Options,
    Orientation,
    Result,
    ServiceFailure,
)

__all__ = [
    "BATCH_BYTES",
    "BATCH_IMAGES",
    "FIRST_PAUSE",
    "LONGEST_PAUSE",
    "Alternative",
    "AsyncClient",
    "Character",
    "Client",
    "ImageSource",
    "Line",
    "Mode",
    "Options",
    "Orientation",
    "Result",
    "ServiceFailure",
]

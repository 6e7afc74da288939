"""Python client of the HTTP interface; needs only ``httpx2``. Import all public names from here."""

from linewise.service.client.async_client import AsyncClient
from linewise.service.client.batches import BATCH_BYTES, BATCH_IMAGES, BATCH_PIXELS, ImageSource
from linewise.service.client.encoding import Mode, Options, Orientation
from linewise.service.client.results import Alternative, Character, Line, Result, ServiceFailure, Word
from linewise.service.client.retry import FIRST_PAUSE, LONGEST_PAUSE
from linewise.service.client.sync_client import Client

__all__ = [
    "BATCH_BYTES",
    "BATCH_IMAGES",
    "BATCH_PIXELS",
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
    "Word",
]

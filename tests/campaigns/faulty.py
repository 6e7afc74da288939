"""The service with a fake recogniser that fails on demand.

The first pixel of a picture is a ``Fault``, the next four are a number in big-endian order. Its text is ``text_of``
that number, so that each response can be matched with its request.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from PIL import Image
from starlette.types import ASGIApp, Receive, Scope, Send

from linewise.model.recognition.results import Reading
from linewise.service.app import create_app
from linewise.service.server import run
from linewise.service.settings import Settings

SECRET = "geheim"  # prefix of every text; must not appear in a log


class Fault(IntEnum):
    """Failure that a picture causes."""

    NONE = 0
    FORWARD = 1  # the recogniser raises
    MEMORY = 2  # the recogniser runs out of memory if the batch holds other pictures
    ANSWER = 3  # the recogniser returns a text of the wrong type
    SLOW = 4  # reading takes long
    DEATH = 5  # the model thread ends


def text_of(number: int) -> str:
    """Return the text of the picture of a number."""
    return f"{SECRET}-{number}"


def picture(number: int, fault: Fault = Fault.NONE, width: int = 40) -> bytes:
    """Draw a PNG of a number and a fault, ``width`` >= 5 pixels wide; rotated by 180 degrees it is 0 without fault."""
    pixels = np.zeros((32, width), np.uint8)
    pixels[0, :5] = [fault, *number.to_bytes(4, "big")]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class FaultyReader:
    """Fake recogniser that reads numbers and fails as the pictures demand."""

    model_id, revision, device = "faulty", "sha256:00", "cpu"

    def warm_up(self) -> None:
        """Nothing to do."""

    def width_bucket(self, height: int, width: int) -> int:
        """Round the width up to a multiple of 64 pixels."""
        return -(-width // 64) * 64

    def decoding(self, *arguments: object) -> None:
        """Return the default decoding for all arguments."""

    def read(self, images: Sequence[Any], decodings: Sequence[Any] | None = None) -> list[Any]:
        """Read the numbers of the pictures."""
        faults = {Fault(int(image[0, 0])) for image in images}
        if Fault.DEATH in faults:
            raise SystemExit("death on demand")
        if Fault.FORWARD in faults:
            raise ValueError("failure on demand")
        if Fault.MEMORY in faults and len(images) > 1:
            raise MemoryError
        time.sleep(0.03 if Fault.SLOW in faults else 0.002)
        return [self._reading(image) for image in images]

    def _reading(self, image: Any) -> Any:
        text: Any = text_of(int.from_bytes(image[0, 1:5].tobytes(), "big"))
        if image[0, 0] == Fault.ANSWER:
            text = [text]
        return Reading(text, confidence=1.0, confidence_min=1.0, characters=())


class ArrivalLogMiddleware:
    """Logs the id of every recognition request before the application handles it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Log the id of a recognition request and call the application."""
        if scope["type"] == "http" and scope["path"].startswith("/recognize"):
            request_id = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
            print("arrived", request_id, file=sys.stderr, flush=True)
        await self.app(scope, receive, send)


def arrived_ids(log: bytes) -> set[str]:
    """Return the ids of the requests that a log of ``ArrivalLogMiddleware`` names."""
    return {line.split()[1].decode() for line in log.splitlines() if line[:8] == b"arrived "}


if __name__ == "__main__":
    settings = Settings()
    app = create_app(settings, FaultyReader())
    app.add_middleware(ArrivalLogMiddleware)
    sys.exit(run(app, settings))

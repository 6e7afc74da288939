"""The service around a recogniser that fails as its pictures tell it to.

A picture's first pixel is one of ``Fault``, the four after it are a number, high byte first; what is read in it is
``text_of`` that number, which makes it easy to see whose answer an answer is.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from starlette.types import ASGIApp, Receive, Scope, Send

from linewise.service.app import create_app
from linewise.service.server import run
from linewise.service.settings import Settings

SECRET = "geheim"  # begins every text that is read, and must not be in any log


class Fault(IntEnum):
    """What goes wrong with a picture."""

    NONE = 0
    FORWARD = 1  # the recogniser raises
    MEMORY = 2  # the recogniser runs out of memory on this picture in company
    ANSWER = 3  # the recogniser reads what is no text
    SLOW = 4  # reading takes long
    DEATH = 5  # the thread of the recogniser ends


def text_of(number: int) -> str:
    """What is read in a picture of a number."""
    return f"{SECRET}-{number}"


def picture(number: int, fault: Fault = Fault.NONE, width: int = 40) -> bytes:
    """A PNG file of a number and a fault, ``width`` pixels wide, at least five; on its head it is a faultless 0."""
    pixels = np.zeros((32, width), np.uint8)
    pixels[0, :5] = [fault, *number.to_bytes(4, "big")]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class FaultyReader:
    """Reads numbers, fast, and fails where it is told to."""

    model_id, revision, device = "faulty", "sha256:00", "cpu"

    def warm_up(self) -> None:
        """Nothing to do."""

    def width_bucket(self, height: int, width: int) -> int:
        """Steps of 64 pixels."""
        return -(-width // 64) * 64

    def decoding(self, *wanted: object) -> None:
        """Only one way to decode."""

    def read(self, images: Sequence[Any], decodings: Sequence[Any] | None = None) -> list[Any]:
        """The numbers of the pictures."""
        faults = {Fault(int(image[0, 0])) for image in images}
        if Fault.DEATH in faults:
            raise SystemExit("told to die")
        if Fault.FORWARD in faults:
            raise ValueError("told to fail")
        if Fault.MEMORY in faults and len(images) > 1:
            raise MemoryError
        time.sleep(0.03 if Fault.SLOW in faults else 0.002)
        return [self._reading(image) for image in images]

    def _reading(self, image: Any) -> Any:
        text: Any = text_of(int.from_bytes(image[0, 1:5].tobytes(), "big"))
        if image[0, 0] == Fault.ANSWER:
            text = [text]
        return SimpleNamespace(text=text, confidence=1.0, confidence_min=1.0, characters=(), alternatives=(), turn=0)


class Arrivals:
    """Writes down the id of every request for text that reaches the application, before anything is done about it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/recognize"):
            offered = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
            print("arrived", offered, file=sys.stderr, flush=True)
        await self.app(scope, receive, send)


if __name__ == "__main__":
    settings = Settings()
    app = create_app(settings, FaultyReader())
    app.add_middleware(Arrivals)
    sys.exit(run(app, settings))

"""The process around the application: signals, drain, exit code."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import socket
import warnings
from types import FrameType

import uvicorn
from fastapi import FastAPI
from PIL import _imaging

from linewise.service.inference.engine import Engine
from linewise.service.logs import log_config
from linewise.service.middleware.http_limits import LimitedHttpProtocol
from linewise.service.settings import Settings

EXIT_MODEL_FAILED = 1
EXIT_NOT_STARTED = 3  # as uvicorn itself does


def run(app: FastAPI, settings: Settings) -> int:
    """Serve until told to stop; the exit code: 0 after an orderly stop, else something failed."""
    engine: Engine = app.state.engine
    # What Pillow finds odd in a file is answered to whoever sent it; on standard error it would break the JSON lines.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    _hush_libtiff()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=log_config(settings.log_format, settings.log_level),
        access_log=False,
        http=LimitedHttpProtocol,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_timeout) + 1,
    )
    server = _DrainingServer(config, engine, settings.drain_delay)
    with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl+C while the last requests are being answered
        server.run()
    if not server.started:
        return EXIT_NOT_STARTED
    return EXIT_MODEL_FAILED if server.failed else 0


def _hush_libtiff() -> None:
    """Keep libtiff from writing what it thinks of a file, line by line, to standard error itself."""
    with contextlib.suppress(AttributeError, OSError):  # where it is a part of Pillow itself it cannot be reached
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


class _DrainingServer(uvicorn.Server):
    """Turns unready on the first signal, closes the port after ``delay`` seconds and leaves with exit code 0.

    Uvicorn itself would raise the signal again at the end, which an orchestrator takes for a crash. When the model
    fails for good it stops as well, for a new process to take over.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine, delay: float) -> None:
        super().__init__(config)
        self.failed = False
        self._engine = engine
        self._delay = delay
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine.on_failure = self._model_failed
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is None or self._engine.draining:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
            return
        # A signal interrupts anything, also a thread that holds a lock: leave the work to the event loop.
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._engine.drain()
        asyncio.get_running_loop().call_later(self._delay, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    def _model_failed(self) -> None:
        self.failed = True
        self.should_exit = True

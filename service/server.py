"""The server process: signals, graceful shutdown, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import logging
import os
import signal
import socket
import warnings
from types import FrameType

import uvicorn
from fastapi import FastAPI
from PIL import _imaging

from linewise.service.inference.engine import Engine
from linewise.service.logs import log_config
from linewise.service.middleware.http_limits import limited_protocol
from linewise.service.settings import Settings

log = logging.getLogger("linewise.service")

EXIT_MODEL_FAILED = 1
EXIT_NOT_STARTED = 3  # the code of uvicorn itself


def run(app: FastAPI, settings: Settings) -> int:
    """Serve until a stop signal and return the exit code: 0 after a graceful shutdown."""
    engine: Engine = app.state.engine
    # Pillow's warnings about uploaded files would break the JSON log on standard error.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    _silence_libtiff()
    server = _DrainingServer(server_config(app, settings), engine, settings.drain_delay)
    with contextlib.suppress(KeyboardInterrupt):  # second Ctrl+C during the drain
        server.run()
    if not server.started:
        return EXIT_NOT_STARTED
    code = EXIT_MODEL_FAILED if server.model_failed else 0
    if engine.decoders_running:  # Python would wait for these threads to end, perhaps for ever
        log.error("exit without %d stuck decoders", engine.decoders_running)
        logging.shutdown()
        os._exit(code)
    return code


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return the configuration of uvicorn; ``FORWARDED_ALLOW_IPS`` names the trusted proxies, by default none."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=log_config(settings.log_format, settings.log_level),
        access_log=False,
        http=limited_protocol(settings.write_timeout, settings.max_unsent_bytes),
        server_header=False,
        forwarded_allow_ips=os.environ.get("FORWARDED_ALLOW_IPS", ""),  # uvicorn's default trusts 127.0.0.1
        timeout_graceful_shutdown=int(settings.drain_timeout) + 1,
    )


def page_address(host: str, port: int) -> str:
    """Return the address of the page for a browser on this machine; a host that means all addresses is loopback."""
    with contextlib.suppress(ValueError):  # a name
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _silence_libtiff() -> None:
    """Keep libtiff from writing errors about uploaded files to standard error."""
    with contextlib.suppress(AttributeError, OSError):  # unreachable where Pillow links it statically
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


class _DrainingServer(uvicorn.Server):
    """Uvicorn server with a drain: unready on the first signal, port closed ``drain_delay`` seconds later.

    Requests that arrive in between are served, since load balancers need that time to notice. The exit code is then 0;
    uvicorn itself would raise the signal again, which orchestrators treat as a crash. The
    server also stops when the model fails permanently, so that an orchestrator restarts the process.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine, drain_delay: float) -> None:
        super().__init__(config)
        self.model_failed = False
        self._engine = engine
        self._drain_delay = drain_delay
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._engine.on_failure = self._on_model_failure
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self.servers:
            log.info("open %s", page_address(self.config.host, self.servers[0].sockets[0].getsockname()[1]))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is None or self._engine.draining:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
            return
        # The handler may interrupt code that holds a lock, so the event loop does the work.
        self._loop.call_soon_threadsafe(self._announce_shutdown)

    def _announce_shutdown(self) -> None:
        self._engine.announce_shutdown()  # admission stops with the application, when all connections are answered
        asyncio.get_running_loop().call_later(self._drain_delay, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    def _on_model_failure(self) -> None:
        self.model_failed = True
        self.should_exit = True

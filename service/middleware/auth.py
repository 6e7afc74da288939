"""Who may ask, and how often."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from linewise.service.errors import RateLimited, Unauthorized

log = logging.getLogger("linewise.service")


class KeyRing:
    """The API keys that are accepted: those given, and those in a file, one per line, re-read when it changes.

    Only digests are kept, and all of them are compared in constant time. Without keys and without a file everyone is
    let in; a file that is empty lets nobody in.
    """

    def __init__(self, keys: Iterable[str] = (), file: Path | None = None) -> None:
        self._given = tuple(_digest(key) for key in keys)
        self._file = file
        self._from_file: tuple[bytes, ...] = ()
        self._stamp: tuple[int, int, int] | None = None
        self.required = bool(self._given) or file is not None
        if file is not None:
            self._reload(file)

    def accepts(self, offered: str) -> bool:
        """Whether ``offered`` is one of the keys."""
        if self._file is not None:
            self._reload(self._file)
        digest = _digest(offered)
        matches = [hmac.compare_digest(digest, known) for known in self._given + self._from_file]
        return any(matches)

    def _reload(self, file: Path) -> None:
        try:
            status = os.stat(file)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError):
            if self._stamp is not None:  # a file that is being replaced may be missing for a moment
                log.warning("the file of API keys cannot be read; the keys read before stay valid")
                self._stamp = None
            return
        self._from_file = tuple(_digest(line) for line in lines if line and not line.startswith("#"))
        self._stamp = stamp
        log.info("%d API keys in the file", len(self._from_file))


class RateLimiter:
    """Counts images per client in a sliding window, in memory; ``limit`` None lets everything pass."""

    def __init__(self, limit: RateLimitItem | None) -> None:
        self._limit = limit
        self._windows = SlidingWindowCounterRateLimiter(MemoryStorage()) if limit is not None else None

    def charge(self, client: str, images: int) -> None:
        """Count ``images`` against a client. Raises ``RateLimited``."""
        if self._limit is None or self._windows is None or images == 0:
            return
        if not self._windows.hit(self._limit, client, cost=images):
            wait = self._windows.get_window_stats(self._limit, client).reset_time - time.time()
            raise RateLimited(f"The limit is {self._limit.amount} images per {_period(self._limit)}.", retry_after=wait)


_BEARER = HTTPBearer(auto_error=False, description="An API key, where the operator has set some.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key in a header of its own.")


_Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
_Header = Annotated[str | None, Depends(_HEADER)]


async def identify(request: Request, bearer: _Bearer, header: _Header) -> None:
    """Note who is asking, as a name for counting: a digest of the key, else the address. Raises ``Unauthorized``."""
    keys: KeyRing = request.app.state.keys
    offered = bearer.credentials if bearer is not None else header
    if not keys.required:
        request.state.client = f"address:{request.client.host if request.client else 'unknown'}"
    elif offered and keys.accepts(offered):
        request.state.client = f"key:{_digest(offered).hex()}"
    else:
        raise Unauthorized("Send a valid API key as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.")


async def identify_and_charge(request: Request, bearer: _Bearer, header: _Header) -> None:
    """Note who is asking, and count the first image before the body is taken in.

    Raises ``Unauthorized``, ``RateLimited``.
    """
    await identify(request, bearer, header)  # by itself: as a dependency of this one it would cost a tenth of a request
    charge(request, 1)


def charge(request: Request, images: int) -> None:
    """Count images against the client who was identified. Raises ``RateLimited``."""
    limiter: RateLimiter = request.app.state.rate
    limiter.charge(request.state.client, images)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _period(limit: RateLimitItem) -> str:
    name = limit.GRANULARITY.name
    return name if limit.multiples == 1 else f"{limit.multiples} {name}s"

"""Authentication by API key, and rate limits per client."""

from __future__ import annotations

import hashlib
import hmac
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
from linewise.service.middleware.key_file import WatchedKeyFile


class KeyRing:
    """The accepted API keys: configured ones and those in a file, re-read when it changes.

    Only digests are kept; all are compared in constant time. Without keys and without a file, no key is required;
    with an empty file, no key is accepted.
    """

    def __init__(self, keys: Iterable[str] = (), file: Path | None = None) -> None:
        self._configured_digests = tuple(_digest(key) for key in keys)
        self._file = WatchedKeyFile(file) if file is not None else None
        self._file_digests: tuple[bytes, ...] = ()
        self.required = bool(self._configured_digests) or file is not None
        self._update()

    def accepts(self, key: str) -> bool:
        """Return whether the key is valid."""
        self._update()
        digest = _digest(key)
        matches = [
            hmac.compare_digest(digest, valid_digest) for valid_digest in self._configured_digests + self._file_digests
        ]
        return any(matches)

    def _update(self) -> None:
        keys = self._file.read_changes() if self._file is not None else None
        if keys is not None:
            self._file_digests = tuple(_digest(key) for key in keys)


class RateLimiter:
    """Count images per client in a sliding window, in memory; without ``limit``, allow all."""

    def __init__(self, limit: RateLimitItem | None) -> None:
        self._limit = limit
        self._windows = SlidingWindowCounterRateLimiter(MemoryStorage()) if limit is not None else None

    def charge(self, client: str, images: int) -> None:
        """Count images of a client. Raises ``RateLimited``."""
        if self._limit is None or self._windows is None or images == 0:
            return
        if not self._windows.hit(self._limit, client, cost=images):
            wait = self._windows.get_window_stats(self._limit, client).reset_time - time.time()
            raise RateLimited(
                f"Rate limit exceeded: {self._limit.amount} images per {_period(self._limit)}.", retry_after=wait
            )


_BEARER_SCHEME = HTTPBearer(auto_error=False, description="API key, if the service requires one.")
_HEADER_SCHEME = APIKeyHeader(name="X-API-Key", auto_error=False, description="Alternative header for the API key.")


_Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER_SCHEME)]
_Header = Annotated[str | None, Depends(_HEADER_SCHEME)]


async def identify(request: Request, bearer: _Bearer, header: _Header) -> None:
    """Set the client id for rate limits: a digest of the key, else the address. Raises ``Unauthorized``."""
    keys: KeyRing = request.app.state.keys
    key = bearer.credentials if bearer is not None else header
    if not keys.required:
        request.state.client = f"address:{request.client.host if request.client else 'unknown'}"
    elif key and keys.accepts(key):
        request.state.client = f"key:{_digest(key).hex()}"
    else:
        raise Unauthorized("Send a valid API key as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.")


async def identify_and_charge(request: Request, bearer: _Bearer, header: _Header) -> None:
    """Set the client id and count one image, before the body is read.

    Raises ``Unauthorized``, ``RateLimited``.
    """
    await identify(request, bearer, header)  # not a dependency: FastAPI would take a tenth of the request time for it
    charge(request, 1)


def charge(request: Request, images: int) -> None:
    """Count images of the identified client. Raises ``RateLimited``."""
    limiter: RateLimiter = request.app.state.rate
    limiter.charge(request.state.client, images)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _period(limit: RateLimitItem) -> str:
    unit = limit.GRANULARITY.name
    return unit if limit.multiples == 1 else f"{limit.multiples} {unit}s"

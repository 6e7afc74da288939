"""Authentication by API key, and rate limits per client."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers
from starlette.types import Scope

from linewise.service.errors import RateLimited, TooManyFiles, Unauthorized
from linewise.service.middleware.key_file import WatchedKeyFile

WRONG_KEYS_PER_MINUTE = 30  # from one address
MAX_REMEMBERED_KEYS = 10_000  # with the addresses that used them


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


class WrongKeyLimiter:
    """Count wrong API keys per address, and refuse untried keys beyond ``WRONG_KEYS_PER_MINUTE``.

    A key that was accepted from the address before is not refused: several clients may share an address.
    """

    def __init__(self) -> None:
        self._limit = RateLimitItemPerMinute(WRONG_KEYS_PER_MINUTE)
        self._windows = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._accepted: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def check(self, address: str, key: str) -> None:
        """Raise ``RateLimited`` if the address may try no other key now."""
        if (address, _digest(key)) not in self._accepted and not self._windows.test(self._limit, address):
            wait = self._windows.get_window_stats(self._limit, address).reset_time - time.time()
            raise RateLimited(
                f"Too many wrong API keys from this address: more than {WRONG_KEYS_PER_MINUTE} per minute.",
                retry_after=wait,
            )

    def record(self, address: str, key: str, accepted: bool) -> None:
        """Count a wrong key, or remember an accepted one."""
        if not accepted:
            self._windows.hit(self._limit, address)
            return
        self._accepted[address, _digest(key)] = None
        self._accepted.move_to_end((address, _digest(key)))
        if len(self._accepted) > MAX_REMEMBERED_KEYS:
            self._accepted.popitem(last=False)


class RateLimiter:
    """Count images per client in a sliding window, in memory; without ``limit``, allow all."""

    def __init__(self, limit: RateLimitItem | None) -> None:
        self._limit = limit
        self._windows = SlidingWindowCounterRateLimiter(MemoryStorage()) if limit is not None else None

    def charge(self, client: str, images: int) -> None:
        """Count images of a client, all or none. Raises ``RateLimited``, ``TooManyFiles`` if they can never pass."""
        if self._limit is None or self._windows is None:
            return
        if images > self._limit.amount:
            raise TooManyFiles(f"The batch exceeds the rate limit of {self._described}; send smaller batches.")
        if not self._windows.hit(self._limit, client, cost=images):
            self._refuse(self._limit, self._windows, client)

    def check(self, client: str) -> None:
        """Raise ``RateLimited`` if the client may not send an image now; count nothing."""
        if self._limit is not None and self._windows is not None and not self._windows.test(self._limit, client):
            self._refuse(self._limit, self._windows, client)

    def charge_afterwards(self, client: str, images: int) -> None:
        """Count images that are already read; they use up at most what is left of the limit."""
        if self._limit is not None and self._windows is not None and images > 0:
            left = self._windows.get_window_stats(self._limit, client).remaining
            if left > 0:
                self._windows.hit(self._limit, client, cost=min(images, left))

    @property
    def _described(self) -> str:
        return f"{self._limit.amount} images per {_period(self._limit)}" if self._limit is not None else ""

    def _refuse(self, limit: RateLimitItem, windows: SlidingWindowCounterRateLimiter, client: str) -> None:
        wait = windows.get_window_stats(limit, client).reset_time - time.time()
        raise RateLimited(f"Rate limit exceeded: {self._described}.", retry_after=wait)


_BEARER_SCHEME = HTTPBearer(auto_error=False, description="API key, if the service requires one.")
_HEADER_SCHEME = APIKeyHeader(name="X-API-Key", auto_error=False, description="Alternative header for the API key.")


_Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER_SCHEME)]
_Header = Annotated[str | None, Depends(_HEADER_SCHEME)]


async def identify(request: Request, bearer: _Bearer, header: _Header) -> None:
    """Set the client id for rate limits: a digest of the key, else the address.

    Raises ``Unauthorized``, and ``RateLimited`` after too many wrong keys.
    """
    keys: KeyRing = request.app.state.keys
    key = bearer.credentials if bearer is not None else header
    address = request.client.host if request.client else "unknown"
    if not keys.required:
        request.state.client = _address_id(request.scope)
        return
    if key:
        wrong_keys: WrongKeyLimiter = request.app.state.wrong_keys
        wrong_keys.check(address, key)
        accepted = keys.accepts(key)
        wrong_keys.record(address, key, accepted)
        if accepted:
            request.state.client = _key_id(key)
            return
    raise Unauthorized("Send a valid API key as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.")


async def identify_and_charge(request: Request, bearer: _Bearer, header: _Header) -> None:
    """Set the client id and count one image, before the body is read.

    Raises ``Unauthorized``, ``RateLimited``.
    """
    await identify(request, bearer, header)  # not a dependency: FastAPI would take a tenth of the request time for it
    charge(request, 1)


async def identify_and_check(request: Request, bearer: _Bearer, header: _Header) -> None:
    """Set the client id and refuse a client at its rate limit, before the body shows the number of images.

    Raises ``Unauthorized``, ``RateLimited``.
    """
    await identify(request, bearer, header)
    limiter: RateLimiter = request.app.state.rate
    limiter.check(request.state.client)


def claimed_client(scope: Scope, keys: KeyRing) -> str:
    """Return the client id that ``identify`` sets if the key of the request is valid."""
    if not keys.required:
        return _address_id(scope)
    headers = Headers(scope=scope)
    scheme, _, key = headers.get("authorization", "").partition(" ")
    key = key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return _key_id(key)


def charge(request: Request, images: int) -> None:
    """Count images of the identified client. Raises ``RateLimited``, ``TooManyFiles``."""
    limiter: RateLimiter = request.app.state.rate
    limiter.charge(request.state.client, images)


def charge_pages(scope: Scope, pages: int) -> None:
    """Count the pages of a document that was charged as one image, once it is read."""
    limiter: RateLimiter = scope["app"].state.rate
    limiter.charge_afterwards(scope["state"]["client"], pages - 1)


def _address_id(scope: Scope) -> str:
    client = scope.get("client")
    return f"address:{client[0] if client else 'unknown'}"


def _key_id(key: str) -> str:
    return f"key:{_digest(key).hex()}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _period(limit: RateLimitItem) -> str:
    unit = limit.GRANULARITY.name
    return unit if limit.multiples == 1 else f"{limit.multiples} {unit}s"

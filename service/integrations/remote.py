"""Recognition by a running service, with the HTTP client of the standard library.

The client package needs ``httpx2``, whose import takes longer than the recognition of a line.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from linewise.service.documents.layout import Character, Document, Line, Mode, Page, Polygon, Word
from linewise.service.integrations.reading import Orientation, ReadingError, ReadOptions, orientation_of

TIMEOUT_S = 120.0  # of one file, retries included
CHECK_TIMEOUT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0  # between attempts without Retry-After
RETRIED_STATUSES = (429, 502, 503)


class RemoteReader:
    """Send files to the service at ``url``. Raises ``ReadingError`` for an address or key that cannot work."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        try:
            self._url = urlsplit(url)
            usable = self._url.scheme in ("http", "https") and bool(self._url.hostname) and self._url.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ReadingError("LINEWISE_URL must be an address such as http://127.0.0.1:8000")
        if api_key and not (api_key.isascii() and api_key.isprintable() and api_key == api_key.strip()):
            raise ReadingError("LINEWISE_API_KEY must be printable ASCII without white space around it")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def read(self, data: bytes, options: ReadOptions) -> Document:
        """Read a file; see ``DocumentReader``."""
        query = {"mode": options.mode, "detail": "chars" if options.with_characters else "words"}
        query |= {"charset": options.charset} if options.charset is not None else {}
        query |= {"charset_exclude": options.charset_exclude} if options.charset_exclude else {}
        files = [data] if options.pages is None else [_render(data, number) for number in options.pages]
        documents = [_parse_document(self._post(query, file, options.lexicon)) for file in files]
        return Document(tuple(page for document in documents for page in document.pages))

    def orientation(self, data: bytes) -> Orientation:
        """Read the page; see ``DocumentReader``."""
        return orientation_of(_parse_document(self._post({"mode": "page"}, data, None)).pages[0])

    def check(self) -> None:
        """Ask whether the service is ready."""
        status, _, _ = self._exchange("GET", f"{self._url.path.rstrip('/')}/healthz/ready", b"", {}, CHECK_TIMEOUT_S)
        if status != 200:
            raise ReadingError(f"the service at {_address(self._url)} (LINEWISE_URL) is not ready: status {status}")

    def _post(self, query: Mapping[str, str], data: bytes, lexicon: tuple[str, ...] | None) -> Any:
        """Send a file and return the JSON of the answer; overload and lost connections are tried again."""
        headers, body = self._headers | {"Content-Type": "application/octet-stream"}, data
        if lexicon is not None:
            boundary = os.urandom(16).hex()
            headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
            body = _form(data, lexicon, boundary)
        target = f"{self._url.path.rstrip('/')}/v1/recognize?{urlencode(query)}"
        end = time.monotonic() + TIMEOUT_S
        pause = FIRST_PAUSE_S
        while True:
            left = end - time.monotonic()
            status, content, retry_after = self._exchange(
                "POST", target, body, headers | {"X-Request-Timeout": f"{left:.3f}"}, left
            )
            if status == 200:
                return _parse_json(content)
            wait = max(pause, retry_after)
            if status not in RETRIED_STATUSES or time.monotonic() + wait >= end:
                raise ReadingError(_problem(status, content))
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _exchange(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> tuple[int, bytes, float]:
        """Return status, body and ``Retry-After`` in seconds of one request."""
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        assert self._url.hostname
        connection = kind(self._url.hostname, self._url.port, timeout=timeout)
        try:
            connection.request(method, target, body, dict(headers))
            response = connection.getresponse()
            retry_after = response.getheader("retry-after", "")
            return response.status, response.read(), float(retry_after) if retry_after.isdecimal() else 0.0
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ReadingError(f"the service at {_address(self._url)} (LINEWISE_URL) is away: {reason}") from None
        finally:
            connection.close()


def _render(data: bytes, number: int) -> bytes:
    """Render one page of a PDF or TIFF to a PNG, so that the others are not sent."""
    import io

    from PIL import Image

    from linewise.service.documents.multipage import decode_page
    from linewise.service.errors import ServiceError
    from linewise.service.settings import Settings

    png = io.BytesIO()
    try:
        Image.fromarray(decode_page(data, number, Settings().image_limits).pixels).save(png, "PNG", compress_level=1)
    except ServiceError as error:
        raise ReadingError(error.detail) from None
    return png.getvalue()


def _address(url: SplitResult) -> str:
    """The address without user name and password."""
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{quote(url.path, safe='/%')}"


def _form(data: bytes, lexicon: tuple[str, ...], boundary: str) -> bytes:
    """Encode a file and a lexicon, which is too long for a query, as a form."""
    opening = f"--{boundary}\r\nContent-Disposition: form-data; name="
    words = "\n".join(lexicon).encode()
    return b"".join(
        (
            f'{opening}"lexicon"\r\n\r\n'.encode(), words,
            f'\r\n{opening}"file"; filename="file"\r\n\r\n'.encode(), data,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )  # fmt: skip


def _parse_json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise ReadingError(_problem(200, content)) from None


def _problem(status: int, content: bytes) -> str:
    """Describe a failed answer in one line."""
    try:
        problem = json.loads(content)
        return f"{problem['detail']} ({problem['code']}, status {status})"
    except (ValueError, LookupError, TypeError):
        return f"the answer with status {status} is not from a Linewise service; check LINEWISE_URL"


def _parse_document(body: Any) -> Document:
    """Build the document of an answer. Raises ``ReadingError`` if another program wrote it."""
    try:
        return Document(tuple(_parse_page(page, body.get("mode", "line")) for page in body.get("pages") or [body]))
    except (LookupError, TypeError, ValueError, AttributeError):
        raise ReadingError(_problem(200, b"")) from None


def _parse_page(body: Mapping[str, Any], mode: Mode) -> Page:
    """Build a page; an image read as one line has its characters where a page has its lines."""
    image = body["image"]
    right, bottom = float(image["width"]), float(image["height"])
    outline = (0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom)
    lines = body["lines"] if mode == "page" else [{**body, "polygon": outline, "row": 0}]
    return Page(
        width=image["width"],
        height=image["height"],
        format=image["format"],
        orientation_applied=image["orientation_applied"],
        turn=0,  # part of orientation_applied
        mode=mode,
        lines=tuple(_parse_line(line) for line in lines),
        warnings=tuple(body["warnings"]),
    )


def _parse_line(body: Mapping[str, Any]) -> Line:
    return Line(
        text=body["text"],
        confidence=body["confidence"],
        confidence_min=body["confidence_min"],
        polygon=_polygon(body),
        row=body["row"],
        words=tuple(Word(word["text"], word["confidence"], _polygon(word)) for word in body.get("words", ())),
        characters=tuple(
            Character(character["text"], character["confidence"], _polygon(character))
            for character in body.get("chars", ())
        ),
    )


def _polygon(body: Mapping[str, Any]) -> Polygon:
    (a, b), (c, d), (e, f), (g, h) = body["polygon"]
    return (a, b), (c, d), (e, f), (g, h)

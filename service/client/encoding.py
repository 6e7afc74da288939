"""Options of the client, and their encoding as HTTP requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import httpx2

from linewise.service.client.batches import Batch
from linewise.service.client.results import ServiceFailure

Orientation = Literal["0", "90", "180", "270", "auto"]
Mode = Literal["line", "page", "auto"]

RECOGNIZE_PATH = "/v1/recognize"
BATCH_PATH = "/v1/recognize/batch"


class Options(TypedDict, total=False):
    """Recognition options; see the service's documentation for each."""

    chars: bool
    words: bool
    alternatives: int
    charset: str
    charset_exclude: str
    lexicon: Sequence[str]
    min_confidence: float
    orientation: Orientation
    mode: Mode


class RequestEncoder:
    """Encode images with fixed options as arguments of ``httpx2``'s ``post``. Raises ``TypeError``."""

    def __init__(self, options: Options) -> None:
        values: dict[str, Any] = dict(options)
        unknown = values.keys() - Options.__annotations__.keys()
        if unknown:
            raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
        lexicon = values.pop("lexicon", None)
        with_words, with_characters = values.pop("words", False), values.pop("chars", False)
        detail = "chars" if with_characters else "words"
        self._query = {"detail": detail} if with_words or with_characters else {}
        self._query |= {name: str(value) for name, value in values.items() if value is not None}
        self._fields = {} if lexicon is None else {"lexicon": "\n".join(lexicon)}  # too long for a query

    def single(self, image: bytes) -> dict[str, Any]:
        """Encode one image: as the raw body, or as a form if there are fields."""
        if not self._fields:
            return {"params": self._query, "content": image}
        return {"params": self._query, "files": {"file": image}, "data": self._fields}

    def batch(self, batch: Batch) -> dict[str, Any]:
        """Encode a batch as a form; the file names are the places in the batch."""
        files = [
            ("files", (str(index), content))
            for index, content in enumerate(batch.contents)
            if isinstance(content, bytes)
        ]
        return {"params": self._query, "files": files, "data": self._fields}


def connection_arguments(url: str, api_key: str | None) -> dict[str, Any]:
    """Return the arguments of ``httpx2``'s clients for a service.

    Raises ``ServiceFailure`` for a URL or key that cannot work; its text shows neither.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = None
    if parsed is None or parsed.scheme not in ("http", "https") or not parsed.host:
        detail = "the URL must begin with http:// or https:// and name a host, such as http://127.0.0.1:8000"
        raise ServiceFailure(0, "invalid_url", detail)
    if api_key and not (api_key.isascii() and api_key.isprintable() and api_key == api_key.strip()):
        detail = (
            "the API key must be printable ASCII without white space around it; a key read from a file ends with a"
            " newline, which strip() removes"
        )
        raise ServiceFailure(0, "invalid_key", detail)
    return {"base_url": url, "headers": {"Authorization": f"Bearer {api_key}"} if api_key else {}}

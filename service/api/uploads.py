"""The ways of sending images - multipart, raw body, JSON - taken down to bytes and options."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar

from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from linewise.service.api.schemas import BatchBody, RecognizeBody
from linewise.service.documents.image import measure
from linewise.service.errors import BadRequest, EmptyFile, ImageTooLarge, ServiceError, TooManyFiles

T = TypeVar("T")

Unwrap = Callable[[], bytes]
Offload = Callable[[Callable[[], Any]], Awaitable[Any]]

MAX_FIELD_BYTES = 4 * 2**20  # of one that is no file: room for a lexicon
MAX_FIELDS = 64  # form fields that are no files; there are fewer options than that
SMALL_JSON = 2**16  # bytes that are parsed faster than they are handed to another thread

_DATA_URI = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_BLANKS = str.maketrans("", "", " \t\r\n")


@dataclass(frozen=True)
class UploadedImage:
    """One image as it came.

    ``read_bytes`` gives its bytes, may take a while, and raises ``ImageError`` or ``BadRequest``.

    ``size`` is that of the wrapped form, in bytes.
    """

    id: str | None
    read_bytes: Unwrap
    size: int


@dataclass(frozen=True)
class ParsedRequest:
    """The images of one request, in order, and the options that came with them."""

    items: tuple[UploadedImage, ...]
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all images, as they came."""
        return sum(item.size for item in self.items)


async def parse_single(request: Request, offload: Offload) -> ParsedRequest:
    """Take in the body of a request for one image. Raises ``BadRequest``."""
    content_type = _content_type(request)
    if content_type == "multipart/form-data":
        return await _receive_form(request, "file", 1, BadRequest("There are several files; send one image."))
    body = await request.body()
    if _is_json(content_type):
        return await _off_loop(offload, partial(_parse_one, body), len(body))
    if content_type in ("", "application/octet-stream", "application/pdf") or content_type.startswith("image/"):
        return ParsedRequest((_raw_item(None, body),))
    raise BadRequest(
        "Send the image as the multipart field 'file', as a body of type image/*, application/pdf or"
        " application/octet-stream, or as JSON with the member 'image'."
    )


async def parse_batch(request: Request, offload: Offload, max_files: int, max_pixels: int) -> ParsedRequest:
    """Take in the body of a request for several images.

    Raises ``BadRequest``, ``TooManyFiles``, and ``ImageTooLarge`` when they have more than ``max_pixels`` in all.
    """
    too_many = TooManyFiles(f"There are more than {max_files} images in one request.")
    content_type = _content_type(request)
    if content_type == "multipart/form-data":
        upload = await _receive_form(request, "files", max_files, too_many)
    elif _is_json(content_type):
        body = await request.body()
        upload = await _off_loop(offload, partial(_parse_many, body), len(body))
    else:
        raise BadRequest("Send the images as multipart fields 'files' or as JSON with the member 'images'.")
    if len(upload.items) > max_files:
        raise too_many
    if await offload(partial(_pixels_in_all, upload.items)) > max_pixels:
        raise ImageTooLarge(f"The images have more than {max_pixels} pixels in all.")
    return upload


def _pixels_in_all(items: Sequence[UploadedImage]) -> int:
    pixels = 0
    for item in items:
        with suppress(ServiceError):  # an item that cannot be unwrapped gets its own problem later
            pixels += measure(item.read_bytes())
    return pixels


def _content_type(request: Request) -> str:
    return parse_options_header(request.headers.get("content-type"))[0].decode("latin-1").lower()


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or content_type.endswith("+json")


async def _off_loop(offload: Offload, parse: Callable[[], ParsedRequest], size: int) -> ParsedRequest:
    if size <= SMALL_JSON:
        return parse()
    parsed = await offload(parse)
    assert isinstance(parsed, ParsedRequest)
    return parsed


# Multipart ------------------------------------------------------------------------------------------------------------


async def _receive_form(request: Request, name: str, max_files: int, too_many: ServiceError) -> ParsedRequest:
    form = await _parse_form(request, max_files, too_many)
    items: list[UploadedImage] = []
    options: dict[str, object] = {}
    try:
        for key, part in form.multi_items():
            if isinstance(part, UploadFile):
                if key != name:
                    raise BadRequest(f"There is a file in a field that is not named '{name}'.")
                items.append(_raw_item(part.filename or None, await part.read()))
            elif key == name:
                raise BadRequest(f"The field '{name}' is text; send it as a file, with a filename.")
            elif key in options:
                raise BadRequest("A form field is given twice.")
            else:
                options[key] = part
    finally:
        await form.close()
    if not items:
        raise BadRequest(f"There is no file in a field named '{name}'.")
    return ParsedRequest(tuple(items), options)


async def _parse_form(request: Request, max_files: int, too_many: ServiceError) -> FormData:
    async with aclosing(request.stream()) as stream:
        parser = _MemoryParser(request.headers, stream, max_files, too_many)
        try:
            form = await parser.parse()
        except MultiPartException:
            raise BadRequest("The multipart body is broken.") from None
    if not parser.finished:
        await form.close()
        raise BadRequest("The multipart body ends before its closing boundary.")
    return form


class _MemoryParser(MultiPartParser):
    """Starlette's parser, made to stay in memory, to count files and to notice a missing end."""

    spool_max_size = 0  # never to disk: the file system may be read-only, and the body guard bounds the bytes

    def __init__(
        self, headers: Headers, stream: AsyncGenerator[bytes, None], max_files: int, too_many: ServiceError
    ) -> None:
        super().__init__(headers, stream, max_files=math.inf, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
        self.finished = False
        self._files_left = max_files
        self._too_many = too_many

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if self._current_part.file is not None:
            self._files_left -= 1
            if self._files_left < 0:
                raise self._too_many

    def on_end(self) -> None:
        self.finished = True


def _raw_item(name: str | None, data: bytes) -> UploadedImage:
    return UploadedImage(name, lambda: _not_empty(data), len(data))


# JSON -----------------------------------------------------------------------------------------------------------------


def _parse_one(body: bytes) -> ParsedRequest:
    try:
        parsed = RecognizeBody.model_validate_json(body)
    except ValidationError:
        raise BadRequest('The body is not JSON of the form {"image": "<base64 or data: URI>"}.') from None
    return ParsedRequest((_base64_item(None, parsed.image),), parsed.model_extra or {})


def _parse_many(body: bytes) -> ParsedRequest:
    try:
        parsed = BatchBody.model_validate_json(body)
    except ValidationError:
        raise BadRequest(
            'The body is not JSON of the form {"images": [{"id": "a", "image": "<base64 or data: URI>"}]}.'
        ) from None
    return ParsedRequest(tuple(_base64_item(one.id, one.image) for one in parsed.images), parsed.model_extra or {})


def _base64_item(name: str | None, encoded: str) -> UploadedImage:
    return UploadedImage(name, cache(lambda: _not_empty(_from_base64(encoded))), len(encoded))


def _from_base64(encoded: str) -> bytes:
    """The bytes in a base64 text or data: URI; line breaks are allowed. Raises ``BadRequest``."""
    if encoded[:5].lower() == "data:":
        header = _DATA_URI.match(encoded)
        if header is None:
            raise BadRequest("The data: URI is not a base64 one.")
        encoded = encoded[header.end() :]
    try:
        return base64.b64decode(encoded.translate(_BLANKS), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("The image is not valid base64.") from None


def _not_empty(data: bytes) -> bytes:
    if not data:
        raise EmptyFile("The image has no bytes.")
    return data

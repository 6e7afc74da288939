"""Parsing of request bodies (multipart, raw, JSON) into images and options."""

from __future__ import annotations

import base64
import binascii
import codecs
import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from email.message import Message
from functools import partial
from typing import Any

from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from linewise.service.api.schemas import BatchBody, RecognizeBody
from linewise.service.documents.image import ImageLimits, measure
from linewise.service.errors import BadRequest, EmptyFile, ImageTooLarge, ServiceError, TooManyFiles

ReadBytes = Callable[[], bytes]
Offload = Callable[[Callable[[], Any]], Awaitable[Any]]

MAX_FIELD_BYTES = 4 * 2**20  # of a form field that is not a file; fits a lexicon
MAX_FIELDS = 64  # form fields that are not files
MAX_INLINE_JSON_BYTES = 2**16  # parsed on the event loop: handing it to a thread would take longer

# Python's codecs that are no charset of the web: they decode to lone surrogates, raise bare UnicodeError or take
# quadratic time.
_REFUSED_CHARSETS = frozenset({"undefined", "punycode", "idna", "unicode-escape", "raw-unicode-escape", "utf-7"})
_DATA_URI = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_WHITESPACE_DELETION = str.maketrans("", "", " \t\r\n")


@dataclass(frozen=True)
class UploadedImage:
    """One image of a request.

    ``read_bytes`` decodes and returns the bytes of the image file; call it off the event loop. It raises ``EmptyFile``
    or ``BadRequest``. ``size`` is the size as sent, in bytes.
    """

    id: str | None
    read_bytes: ReadBytes
    size: int


@dataclass(frozen=True)
class ParsedRequest:
    """The images of a request, in order, and the options in its body."""

    items: tuple[UploadedImage, ...]
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Total size of the images as sent, in bytes."""
        return sum(item.size for item in self.items)


async def parse_single(request: Request, offload: Offload) -> ParsedRequest:
    """Parse a single-image request. Raises ``BadRequest``."""
    content_type = _content_type(request)
    if content_type == "multipart/form-data":
        return await _parse_form_images(request, "file", 1, BadRequest("The form has several files; send one image."))
    body = await _whole_body(request)
    if _is_json(content_type):
        return await _parse_json(offload, _parse_single_json, body)
    if content_type in ("", "application/octet-stream", "application/pdf") or content_type.startswith("image/"):
        return ParsedRequest((_raw_image(None, body),))
    raise BadRequest(
        "Send the image as the multipart field 'file', as a body of type image/*, application/pdf or"
        " application/octet-stream, or as JSON with the member 'image'."
    )


async def parse_batch(
    request: Request, offload: Offload, max_files: int, max_pixels: int, limits: ImageLimits
) -> ParsedRequest:
    """Parse a batch request.

    Raises ``BadRequest``, ``TooManyFiles``, and ``ImageTooLarge`` if the images have more than ``max_pixels`` together.
    An image that exceeds ``limits`` is never decoded and does not count.
    """
    too_many = TooManyFiles(f"The request has more than the limit of {max_files} images.")
    content_type = _content_type(request)
    if content_type == "multipart/form-data":
        parsed = await _parse_form_images(request, "files", max_files, too_many)
    elif _is_json(content_type):
        parsed = await _parse_json(offload, _parse_batch_json, await _whole_body(request))
    else:
        raise BadRequest("Send the images as multipart fields 'files' or as JSON with the member 'images'.")
    if len(parsed.items) > max_files:
        raise too_many
    if await offload(partial(_total_pixels, parsed.items, limits)) > max_pixels:
        raise ImageTooLarge(f"The images together have more than the limit of {max_pixels} pixels.")
    return parsed


def _total_pixels(items: Sequence[UploadedImage], limits: ImageLimits) -> int:
    pixels = 0
    for item in items:
        with suppress(ServiceError):  # reported later, as the problem of this item
            pixels += measure(item.read_bytes(), limits)
    return pixels


def _content_type(request: Request) -> str:
    return parse_options_header(request.headers.get("content-type"))[0].decode("latin-1").lower()


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or content_type.endswith("+json")


async def _whole_body(request: Request) -> bytes:
    """Receive the body; unlike ``Request.body``, the request does not keep a copy of it until its answer."""
    return b"".join([chunk async for chunk in request.stream()])


async def _parse_json(offload: Offload, parse: Callable[[bytes], ParsedRequest], body: bytes) -> ParsedRequest:
    if len(body) <= MAX_INLINE_JSON_BYTES:
        return parse(body)
    parsed = await offload(partial(parse, body))
    assert isinstance(parsed, ParsedRequest)
    return parsed


# Multipart ------------------------------------------------------------------------------------------------------------


async def _parse_form_images(request: Request, name: str, max_files: int, too_many: ServiceError) -> ParsedRequest:
    form = await _parse_form(request, max_files, too_many)
    items: list[UploadedImage] = []
    options: dict[str, object] = {}
    try:
        for key, part in form.multi_items():
            if isinstance(part, UploadFile):
                if key != name:
                    raise BadRequest(f"Unexpected file field; send files in the field '{name}'.")
                items.append(_raw_image(part.filename or None, await part.read()))
            elif key == name:
                raise BadRequest(f"The field '{name}' is text; send it as a file, with a filename.")
            elif key in options:
                raise BadRequest("A form field is repeated; send each option once.")
            else:
                options[key] = part
    finally:
        await form.close()
    if not items:
        raise BadRequest(f"The form has no file; send one in the field '{name}'.")
    return ParsedRequest(tuple(items), options)


async def _parse_form(request: Request, max_files: int, too_many: ServiceError) -> FormData:
    _check_charset(request.headers)
    async with aclosing(request.stream()) as stream:
        parser = _MemoryParser(request.headers, stream, max_files, too_many)
        try:
            form = await parser.parse()
        except MultiPartException:
            raise BadRequest("The multipart body is malformed.") from None
    if not parser.finished:
        await form.close()
        raise BadRequest("The multipart body ends before its closing boundary.")
    return form


def _check_charset(headers: Headers) -> None:
    """Raise ``BadRequest`` if the charset of the form is none of the web's."""
    charset = parse_options_header(headers.get("content-type"))[1].get(b"charset", b"utf-8").decode("latin-1")
    with suppress(LookupError, ValueError):  # an unknown charset is read as Latin-1
        if codecs.lookup(charset).name.replace("_", "-") in _REFUSED_CHARSETS:
            raise BadRequest("The charset of the form is not supported; send the form in UTF-8.")


class _MemoryParser(MultiPartParser):
    """Multipart parser that stays in memory, limits the files and detects a missing end.

    A part with only ``filename*=`` is a file too: RFC 7578 forbids that parameter, but some clients send it.
    """

    spool_max_size = 0  # never on disk, which may be read-only; BodyLimitMiddleware bounds the bytes

    def __init__(
        self, headers: Headers, stream: AsyncGenerator[bytes, None], max_files: int, too_many: ServiceError
    ) -> None:
        super().__init__(headers, stream, max_files=math.inf, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
        self.finished = False
        self._files_left = max_files
        self._too_many = too_many

    def on_headers_finished(self) -> None:
        disposition = self._current_part.content_disposition or b""
        name = None
        if b"filename*" in disposition and b"filename" not in parse_options_header(disposition)[1]:
            name = _extended_filename(disposition)
        if name is not None:
            self._current_part.content_disposition = disposition + b'; filename=""'
        super().on_headers_finished()
        if name is not None and self._current_part.file is not None:
            self._current_part.file.filename = name
        if self._current_part.file is not None:
            self._files_left -= 1
            if self._files_left < 0:
                raise self._too_many

    def on_end(self) -> None:
        self.finished = True


def _extended_filename(disposition: bytes) -> str | None:
    """Decode ``filename*=`` as RFC 8187 defines it: UTF-8, or else Latin-1; None if there is none."""
    message = Message()
    message["Content-Disposition"] = disposition.decode("latin-1")
    try:
        value = message.get_param("filename", header="content-disposition")
    except ValueError:  # the number of a continuation has thousands of digits
        return None
    if not isinstance(value, tuple):
        return value
    charset, _, name = value
    is_utf8 = (charset or "utf-8").lower() == "utf-8"
    return name.encode("latin-1").decode("utf-8" if is_utf8 else "latin-1", "replace")


def _raw_image(name: str | None, data: bytes) -> UploadedImage:
    return UploadedImage(name, lambda: _require_bytes(data), len(data))


# JSON -----------------------------------------------------------------------------------------------------------------


def _parse_single_json(body: bytes) -> ParsedRequest:
    try:
        parsed = RecognizeBody.model_validate_json(body)
    except ValidationError:
        raise BadRequest('Invalid JSON; send {"image": "<base64 or data: URI>"}.') from None
    return ParsedRequest((_base64_image(None, parsed.image),), parsed.model_extra or {})


def _parse_batch_json(body: bytes) -> ParsedRequest:
    try:
        parsed = BatchBody.model_validate_json(body)
    except ValidationError:
        raise BadRequest('Invalid JSON; send {"images": [{"id": "a", "image": "<base64 or data: URI>"}]}.') from None
    return ParsedRequest(
        tuple(_base64_image(image.id, image.image) for image in parsed.images), parsed.model_extra or {}
    )


def _base64_image(name: str | None, encoded: str) -> UploadedImage:
    """Make an image that holds its text until it is decoded, and its bytes from then on."""
    held: list[str | bytes] = [encoded]

    def read_bytes() -> bytes:
        data = held[0]
        if isinstance(data, str):
            data = held[0] = _from_base64(data)
        return _require_bytes(data)

    return UploadedImage(name, read_bytes, len(encoded))


def _from_base64(encoded: str) -> bytes:
    """Decode base64 or a data: URI; whitespace is allowed. Raises ``BadRequest``."""
    if encoded[:5].lower() == "data:":
        header = _DATA_URI.match(encoded)
        if header is None:
            raise BadRequest("The data: URI is not base64; send data:image/png;base64,...")
        encoded = encoded[header.end() :]
    try:
        return base64.b64decode(encoded.translate(_WHITESPACE_DELETION), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("The image is not valid base64.") from None


def _require_bytes(data: bytes) -> bytes:
    if not data:
        raise EmptyFile("The image file is empty.")
    return data

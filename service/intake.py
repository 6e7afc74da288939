"""The three ways of sending one image - multipart, raw body, JSON - taken down to its bytes."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.errors import BadRequest, EmptyFile, ServiceError
from service.schemas import RecognizeBody

MAX_FIELDS = 64  # form fields that are no files; there are fewer options than that

_DATA_URI = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_BLANKS = str.maketrans("", "", " \t\r\n")


@dataclass(frozen=True)
class Upload:
    """The bytes of one request that hold exactly one image, still wrapped as they came."""

    content: bytes
    is_json: bool

    def unwrap(self) -> bytes:
        """The image's own bytes; takes a while for large JSON, so call it off the event loop.

        Raises ``BadRequest`` or ``EmptyFile``.
        """
        data = _from_json(self.content) if self.is_json else self.content
        if not data:
            raise EmptyFile("The image has no bytes.")
        return data


async def receive_upload(request: Request) -> Upload:
    """Read the body of a request for one image. Raises ``BadRequest``."""
    content_type = parse_options_header(request.headers.get("content-type"))[0].decode("latin-1").lower()
    if content_type == "multipart/form-data":
        return Upload(await _single_file(request), is_json=False)
    body = await request.body()
    if content_type == "application/json" or content_type.endswith("+json"):
        return Upload(body, is_json=True)
    if content_type in ("", "application/octet-stream") or content_type.startswith("image/"):
        return Upload(body, is_json=False)
    raise BadRequest(
        "Send the image as the multipart field 'file', as a body of type image/* or application/octet-stream,"
        " or as JSON with the member 'image'."
    )


async def _single_file(request: Request) -> bytes:
    form = await _parse_form(request, 1, BadRequest("There are several files; send one image."))
    try:
        part = form.get("file")
        if part is None:
            raise BadRequest("There is no file in a field named 'file'.")
        if not isinstance(part, UploadFile):
            raise BadRequest("The field 'file' is text; send it as a file, with a filename.")
        return await part.read()
    finally:
        await form.close()


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
        super().__init__(headers, stream, max_files=math.inf, max_fields=MAX_FIELDS)
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


def _from_json(content: bytes) -> bytes:
    try:
        encoded = RecognizeBody.model_validate_json(content).image
    except ValidationError:
        raise BadRequest('The body is not JSON of the form {"image": "<base64 or data: URI>"}.') from None
    return unwrap_base64(encoded)


def unwrap_base64(encoded: str) -> bytes:
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

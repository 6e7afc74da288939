"""Parsing of inference requests: JSON, then the bytes of the tensors, to one image and its options."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image
from pydantic import ValidationError
from starlette.requests import Request

from linewise.service.api.kserve.schemas import InferRequest, InputTensor, OutputName, whole
from linewise.service.api.options import describe
from linewise.service.api.uploads import MAX_INLINE_JSON_BYTES, Offload, ParsedRequest, UploadedImage
from linewise.service.errors import BadRequest

HEADER_LENGTH = "Inference-Header-Content-Length"
OUTPUTS: tuple[OutputName, ...] = ("boxes", "txts", "scores")

_LENGTH = re.compile(r"[0-9]{1,18}")
_BYTES_PREFIX = 4  # length of an element of type BYTES


@dataclass(frozen=True)
class ParsedInference:
    """An inference request: its image and options, its id, and the requested outputs with whether each is binary."""

    upload: ParsedRequest
    id: str | None
    outputs: tuple[tuple[OutputName, bool], ...]


async def parse_inference(request: Request, offload: Offload) -> ParsedInference:
    """Parse an inference request. Raises ``BadRequest``."""
    body = await request.body()
    end = document_length(request.headers.get(HEADER_LENGTH), len(body))
    if end <= MAX_INLINE_JSON_BYTES:
        return parse(body, end)
    parsed = await offload(partial(parse, body, end))
    assert isinstance(parsed, ParsedInference)
    return parsed


def document_length(header: str | None, total: int) -> int:
    """Return the number of bytes of the JSON document; without the header, all. Raises ``BadRequest``."""
    if header is None:
        return total
    if not _LENGTH.fullmatch(header) or int(header) > total:
        raise BadRequest(
            f"{HEADER_LENGTH} must be the number of bytes of the JSON document, at most the {total} of the body."
        )
    return int(header)


def parse(body: bytes, end: int) -> ParsedInference:
    """Parse a body whose JSON document has ``end`` bytes. Raises ``BadRequest``."""
    try:
        inference = InferRequest.model_validate_json(body[:end])
    except ValidationError as error:
        raise BadRequest(f"The inference request is not valid: {describe(error)}.") from None
    raw = _split(inference.inputs, memoryview(body)[end:])
    image: UploadedImage | None = None
    for tensor, data in zip(inference.inputs, raw, strict=True):
        if tensor.name == "image":
            image = _image(tensor, data)
        else:
            _check_language(tensor, data)
    if image is None:
        raise BadRequest("The input 'image' is missing; send UINT8 pixels of shape [1, height, width, 3].")
    options = dict(inference.parameters)
    return ParsedInference(ParsedRequest((image,), options), inference.id, _outputs(inference, options))


def _split(inputs: Sequence[InputTensor], rest: memoryview) -> list[memoryview | None]:
    """Return the bytes of each input, None for those with JSON data. Raises ``BadRequest``."""
    names = [tensor.name for tensor in inputs]
    if not set(names) <= {"image", "lang_type"} or len(set(names)) < len(names):
        raise BadRequest("The inputs are 'image' and, if a client needs it, 'lang_type'; each once.")
    sizes = [tensor.parameters.binary_data_size for tensor in inputs]
    for tensor, size in zip(inputs, sizes, strict=True):
        if (tensor.data is None) == (size is None):
            raise BadRequest(f"{tensor.name}: send either data or the parameter binary_data_size.")
    total = sum(size or 0 for size in sizes)
    if total != len(rest):
        raise BadRequest(
            f"The binary inputs have {total} bytes by their binary_data_size; {len(rest)} bytes follow the JSON"
            f" document, whose length the header {HEADER_LENGTH} gives."
        )
    pieces: list[memoryview | None] = []
    start = 0
    for size in sizes:
        pieces.append(None if size is None else rest[start : start + size])
        start += size or 0
    return pieces


def _image(tensor: InputTensor, raw: memoryview | None) -> UploadedImage:
    """Return the image of a tensor; its bytes are as many as its shape says. Raises ``BadRequest``."""
    if tensor.datatype != "UINT8":
        raise BadRequest("image: the datatype must be UINT8.")
    if len(tensor.shape) != 4 or tensor.shape[0] != 1 or tensor.shape[3] != 3 or 0 in tensor.shape:
        raise BadRequest("image: the shape must be [1, height, width, 3], one RGB image.")
    _, height, width, _ = tensor.shape
    count = math.prod(tensor.shape)
    pixels: bytes | memoryview
    if raw is not None:
        pixels = raw
    else:
        try:
            pixels = bytes(map(whole, _flatten(tensor.data or [], tensor.shape)))
        except (TypeError, ValueError):
            raise BadRequest("image: data must be whole numbers from 0 to 255, flat or nested as the shape.") from None
    if len(pixels) != count:
        raise BadRequest(f"image: the shape has {count} values, the data {len(pixels)}.")
    return UploadedImage(None, partial(_as_file, pixels, width, height), count)


def _as_file(pixels: bytes | memoryview, width: int, height: int) -> bytes:
    """Return RGB pixels as an uncompressed image file, so that they take the road of all images."""
    file = io.BytesIO()
    Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(height, width, 3)).save(file, "BMP")
    return file.getvalue()


def _flatten(data: list[Any], shape: Sequence[int]) -> list[Any]:
    """Return the values of lists nested as ``shape``; a flat list is returned as it is. Raises ``ValueError``."""
    if not data or not isinstance(data[0], list):
        return data
    if len(data) != shape[0]:
        raise ValueError
    for size in shape[1:]:
        if any(not isinstance(part, list) or len(part) != size for part in data):
            raise ValueError
        data = list(chain.from_iterable(data))
    return data


def _check_language(tensor: InputTensor, raw: memoryview | None) -> None:
    """Check the language, one text; the model reads all its languages at once. Raises ``BadRequest``."""
    if tensor.datatype != "BYTES" or math.prod(tensor.shape) != 1:
        raise BadRequest("lang_type: send one text of datatype BYTES, shape [1, 1].")
    if raw is None:
        value = tensor.data
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, str):
            raise BadRequest("lang_type: data must hold one text.")
        return
    length = int.from_bytes(raw[:_BYTES_PREFIX], "little")
    if len(raw) < _BYTES_PREFIX or length != len(raw) - _BYTES_PREFIX:
        raise BadRequest(
            f"lang_type: an element of type BYTES is its length in {_BYTES_PREFIX} bytes and as many bytes; the tensor"
            f" has {len(raw)}."
        )
    try:
        str(raw[_BYTES_PREFIX:], "utf-8")
    except UnicodeDecodeError:
        raise BadRequest("lang_type: the text is not UTF-8.") from None


def _outputs(inference: InferRequest, options: dict[str, Any]) -> tuple[tuple[OutputName, bool], ...]:
    """Return the requested outputs, each once, all by default; removes the protocol's own member from ``options``."""
    binary = options.pop("binary_data_output", False)
    if not isinstance(binary, bool):
        raise BadRequest("binary_data_output must be true or false.")
    if not inference.outputs:
        return tuple((name, binary) for name in OUTPUTS)
    requested = {
        output.name: binary if output.parameters.binary_data is None else output.parameters.binary_data
        for output in inference.outputs
    }
    return tuple(requested.items())

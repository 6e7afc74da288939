"""Output tensors of an inference: polygons, texts and confidences of the lines."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from starlette.responses import JSONResponse, Response

from linewise.service.api.kserve.requests import HEADER_LENGTH
from linewise.service.api.kserve.schemas import InferResponse, OutputName, OutputTensor
from linewise.service.documents.layout import Line, Page, Point

BINARY_MEDIA_TYPE = "application/octet-stream"

_CORNERS, _COORDINATES = 4, 2


def infer_response(response: InferResponse, page: Page, outputs: Sequence[tuple[OutputName, bool]]) -> Response:
    """Add the requested outputs, each of which may be binary, and build the HTTP response.

    ``boxes`` FP32 ``(N, 4, 2)`` are pixels of the image as it was sent, ``txts`` BYTES ``(N)``, ``scores`` FP32
    ``(N)``. Lines without text are left out.
    """
    lines = [line for line in page.lines if line.text]
    raw = []
    for name, binary in outputs:
        tensor, content = _BUILDERS[name](page, lines)
        if binary:
            tensor = tensor.model_copy(update={"data": None, "parameters": {"binary_data_size": len(content)}})
            raw.append(content)
        response.outputs.append(tensor)
    document = response.model_dump_json(exclude_none=True).encode()
    if not raw:
        return Response(document, media_type=JSONResponse.media_type)
    headers = {HEADER_LENGTH: str(len(document))}
    return Response(b"".join((document, *raw)), media_type=BINARY_MEDIA_TYPE, headers=headers)


def _boxes(page: Page, lines: Sequence[Line]) -> tuple[OutputTensor, bytes]:
    values = [value for line in lines for point in line.polygon for value in _unturned(point, page)]
    shape = [len(lines), _CORNERS, _COORDINATES]
    return OutputTensor(name="boxes", datatype="FP32", shape=shape, data=values), _floats(values)


def _texts(page: Page, lines: Sequence[Line]) -> tuple[OutputTensor, bytes]:
    texts = [line.text for line in lines]
    content = b"".join(len(text).to_bytes(4, "little") + text for text in (text.encode() for text in texts))
    return OutputTensor(name="txts", datatype="BYTES", shape=[len(lines)], data=texts), content


def _scores(page: Page, lines: Sequence[Line]) -> tuple[OutputTensor, bytes]:
    values = [line.confidence for line in lines]
    return OutputTensor(name="scores", datatype="FP32", shape=[len(lines)], data=values), _floats(values)


_BUILDERS: dict[OutputName, Callable[[Page, Sequence[Line]], tuple[OutputTensor, bytes]]] = {
    "boxes": _boxes,
    "txts": _texts,
    "scores": _scores,
}


def _unturned(point: Point, page: Page) -> Point:
    """Rotate a point of the page back by ``page.turn``, to pixels of the image as it was sent."""
    (x, y), (width, height) = point, page.unturned_size
    if page.turn == 90:
        return y, height - x
    if page.turn == 180:
        return width - x, height - y
    return (width - y, x) if page.turn == 270 else (x, y)


def _floats(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)

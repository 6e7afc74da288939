"""Schemathesis strategies for images, which the OpenAPI document describes as binary or base64 only."""

from __future__ import annotations

import base64
import io
import math
from itertools import cycle, islice
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image

TEXTS = ("charset", "charset_exclude", "lexicon", "detail", "orientation", "mode")  # options of type string
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


def _encode(picture: tuple[str, int, int, int]) -> bytes:
    file_format, width, height, grey = picture
    buffer = io.BytesIO()
    Image.new("L", (width, height), grey).save(buffer, file_format)
    return buffer.getvalue()


sides = st.integers(3, 60)
pictures = st.tuples(st.sampled_from(FORMATS), sides, sides, st.integers(0, 255)).map(_encode)
encoded = st.tuples(st.sampled_from(("", "data:image/png;base64,")), pictures)

schemathesis.openapi.format("binary", pictures)
schemathesis.openapi.format("byte", encoded.map(lambda pair: pair[0] + base64.b64encode(pair[1]).decode()))
schemathesis.openapi.media_type("image/*", pictures)
schemathesis.openapi.media_type("application/octet-stream", pictures)
schemathesis.openapi.media_type("application/pdf", pictures)  # the service goes by the bytes, not by this type


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Skip forms with a number for a string option: form encoding makes it a valid string."""
    if case.media_type != "multipart/form-data" or not isinstance(case.body, dict):
        return True
    return all(isinstance(case.body.get(name, ""), str) for name in TEXTS)


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Give valid tensors of an image a small size and as many values as their shape says; JSON Schema cannot."""
    for tensor in body.get("inputs", ()) if isinstance(body, dict) and isinstance(body.get("inputs"), list) else ():
        if not isinstance(tensor, dict) or not _all_within(tensor.get("shape"), 1, 2**63):
            continue
        shape, data = tensor["shape"], tensor.get("data")
        if len(shape) == 4 and (shape[0], shape[3]) == (1, 3) and _all_within(data, 0, 255):
            shape[1:3] = (3 + int(side) % 20 for side in shape[1:3])
            tensor["data"] = list(islice(cycle(data or [255]), math.prod(shape)))
    return body


def _all_within(values: object, low: int, high: int) -> bool:
    return isinstance(values, list) and all(
        type(value) in (int, float) and value % 1 == 0 and low <= value <= high for value in values
    )

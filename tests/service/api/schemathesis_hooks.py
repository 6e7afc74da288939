"""Schemathesis strategies for images, which the OpenAPI document describes as binary or base64 only."""

from __future__ import annotations

import base64
import io
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

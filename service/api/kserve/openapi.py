"""Documentation constants of the routes of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

from linewise.service.api.kserve.outputs import BINARY_MEDIA_TYPE
from linewise.service.api.kserve.requests import HEADER_LENGTH
from linewise.service.api.kserve.schemas import ErrorObject, OutputName
from linewise.service.api.openapi import PROBLEM_DESCRIPTIONS
from linewise.service.api.options import QueryOptions

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorObject, "description": text}
    for status, text in PROBLEM_DESCRIPTIONS.items()
    if status != 406
}

# 3 x 3 black pixels: the smallest image that is accepted.
_EXAMPLE = [{"name": "image", "datatype": "UINT8", "shape": [1, 3, 3, 3], "data": [0] * 27}]

_SIDE = {"type": "integer", "minimum": 3}
_SHAPE = [{"const": 1}, _SIDE, _SIDE, {"const": 3}]
_IMAGE = {
    "type": "object",
    "description": "One RGB image; `data` is flat or nested as `shape`, `[1, height, width, 3]`.",
    "required": ["name", "datatype", "shape", "data"],
    "properties": {
        "name": {"const": "image"},
        "datatype": {"const": "UINT8"},
        "shape": {"type": "array", "prefixItems": _SHAPE, "minItems": 4, "maxItems": 4},
        "data": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"enum": list(OutputName.__args__)},  # type: ignore[attr-defined]
        "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
    },
}


def _parameters() -> dict[str, Any]:
    """Schema of the request parameters: the options of `/recognize`, and the protocol's own."""
    schema = QueryOptions.model_json_schema()
    fields: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        reference = field.pop("$ref", "").rpartition("/")[2]
        fields[name] = {**schema["$defs"][reference], **field} if reference else field
        if field.get("default", ...) is None:
            del fields[name]["default"]
    fields["mode"]["default"] = "page"
    fields["binary_data_output"] = {"type": "boolean", "default": False}
    return {"type": "object", "properties": fields, "additionalProperties": False}


INFER: dict[str, Any] = {
    "summary": "Read the text of one RGB image",
    "description": f"""The Open Inference Protocol (KServe v2), as Triton's clients and docling speak it. With the
header `{HEADER_LENGTH}: n`, the body is n bytes of JSON and then the bytes of the tensors that have the
parameter `binary_data_size`.

Inputs: `image` UINT8 `[1, height, width, 3]`; `lang_type` BYTES `[1, 1]` is accepted and has no effect. Outputs, one
element for each line: `boxes` FP32 `[N, 4, 2]` in pixels of the image, `txts` BYTES `[N]`, `scores` FP32 `[N]`. Request
parameters are the options of `/recognize`; `mode` is `page` by default.""",
    "responses": _ERRORS
    | {
        200: {
            "description": "The outputs; with binary ones, JSON and then their bytes.",
            "content": {BINARY_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["inputs"],
                        "properties": {
                            "id": {"type": "string", "maxLength": 256},
                            "inputs": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": 1,
                                "items": _IMAGE,
                                "examples": [_EXAMPLE],
                            },
                            "outputs": {"type": "array", "maxItems": 3, "items": _OUTPUT},
                            "parameters": _parameters(),
                        },
                    },
                },
            },
        }
    },
}

MODEL: dict[str, Any] = {
    "summary": "Describe the model",
    "description": "Inputs and outputs of the model in the Open Inference Protocol.",
    "responses": {401: _ERRORS[401], 429: _ERRORS[429]},
}

SERVER: dict[str, Any] = {
    "summary": "Describe the server",
    "description": "Name, version and extensions in the Open Inference Protocol.",
}

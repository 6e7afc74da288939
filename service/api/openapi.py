"""Documentation constants of the OpenAPI document: routes, responses, request bodies, examples."""

from __future__ import annotations

from typing import Any

from linewise.service.api.options import Options
from linewise.service.api.schemas import BatchImage, Health, Problem, RecognizeBody
from linewise.service.errors import PROBLEM_JSON
from linewise.service.metrics import CONTENT_TYPE as METRICS_CONTENT_TYPE

NDJSON = "application/x-ndjson"

DESCRIPTION = "Reads the text in images of lines and pages, with calibrated confidences."

TAGS = [
    {"name": "recognition", "description": "Read the text of images."},
    {"name": "inference", "description": "The same through the Open Inference Protocol (KServe v2)."},
    {"name": "service", "description": "Models, health probes and metrics."},
]

# By reference: FastAPI would document a model here as application/json, but problems are application/problem+json.
_PROBLEM_CONTENT = {PROBLEM_JSON: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
PROBLEM_DESCRIPTIONS = {
    400: "Malformed request: `bad_request`, `empty_file`.",
    401: "Missing or invalid API key: `unauthorized`.",
    406: "No available format matches the `Accept` header: `not_acceptable`.",
    408: "The body did not arrive in time: `upload_timeout`.",
    413: "Request too large: `body_too_large`, `too_many_files`.",
    415: "Unsupported image format: `unsupported_image`.",
    422: (
        "Unusable image or invalid option: `undecodable`, `image_too_large`, `image_too_small`, `animated`,"
        " `invalid_option`."
    ),
    429: "Rate limit exceeded; see `Retry-After`: `rate_limited`.",
    503: "Temporarily unavailable; see `Retry-After`: `queue_full`, `not_ready`, `draining`.",
    504: "Deadline exceeded: `deadline_exceeded`.",
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": _PROBLEM_CONTENT} for status, text in PROBLEM_DESCRIPTIONS.items()
}
_BATCH_PROBLEMS = {status: response for status, response in _PROBLEMS.items() if status != 406}
_UNHEALTHY: dict[int | str, dict[str, Any]] = {
    503: {"model": Health, "description": "Probe failed; `status` gives the reason."}
}

# 3 x 3 pixels: the smallest image that is accepted, short enough to print.
_EXAMPLE_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAMAAAADCAAAAABzQ+pjAAAAD0lEQVR42mP8z8DAxADBAAslAQUlTV8lAAAAAElFTkSuQmCC"


# Python's whitespace includes control characters that \s does not match in JSON Schema patterns.
_NOT_BLANK = r"[^\s\x1c-\x1f\x85]"


def _option_fields(*, as_text: bool) -> dict[str, Any]:
    """Schemas of the options as body members; with ``as_text``, the lexicon is a string with one entry per line."""
    schema = Options.model_json_schema()
    fields: dict[str, Any] = {}
    for name, property_schema in schema["properties"].items():
        reference = property_schema.pop("$ref", "").rpartition("/")[2]
        fields[name] = {**schema["$defs"][reference], **property_schema} if reference else property_schema
        if property_schema.get("default", ...) is None:
            del fields[name]["default"]
            if not as_text:  # JSON null selects the default; form fields have no null
                fields[name]["type"] = [property_schema["type"], "null"]
    if as_text:
        description = fields["lexicon"]["description"]
        fields["lexicon"] = {"type": "string", "pattern": _NOT_BLANK, "description": description}
    return fields


_BINARY = {"type": "string", "format": "binary"}
_NOT_EMPTY = {"minLength": 1}  # not in batches: an empty file there is reported in its own item
_BASE64_IMAGE = RecognizeBody.model_json_schema()["properties"]["image"]
_FORM_OPTIONS, _JSON_OPTIONS = _option_fields(as_text=True), _option_fields(as_text=False)


def _body(required: str, schema: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Schema of a body with one required member and the options; no other members are allowed."""
    members = {required: schema, **options}
    return {"type": "object", "required": [required], "properties": members, "additionalProperties": False}


_RECOGNIZE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _body("file", _BINARY | _NOT_EMPTY, _FORM_OPTIONS)},
        "image/*": {"schema": _BINARY | _NOT_EMPTY},
        "application/pdf": {"schema": _BINARY | _NOT_EMPTY},
        "application/octet-stream": {"schema": _BINARY | _NOT_EMPTY},
        "application/json": {
            "schema": _body("image", _BASE64_IMAGE | _NOT_EMPTY, _JSON_OPTIONS),
            "example": {"image": f"data:image/png;base64,{_EXAMPLE_PNG}", "detail": "chars", "lexicon": ["YES", "NO"]},
        },
    },
}

_BATCH_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": _body("files", {"type": "array", "minItems": 1, "items": _BINARY}, _FORM_OPTIONS),
        },
        "application/json": {
            "schema": _body(
                "images", {"type": "array", "minItems": 1, "items": BatchImage.model_json_schema()}, _JSON_OPTIONS
            ),
            "example": {"images": [{"id": "a", "image": f"data:image/png;base64,{_EXAMPLE_PNG}"}]},
        },
    },
}

_HOCR_EXAMPLE = """<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml"><head>...</head><body>
<div class="ocr_page" id="page_1" title="bbox 0 0 412 48; ppageno 0">
<div class="ocr_carea" id="block_1" title="bbox 0 0 412 48"><p class="ocr_par" id="par_1" title="bbox 0 0 412 48">
<span class="ocr_line" id="line_1_1" title="bbox 0 0 412 48; baseline 0.0000 -10">
<span class="ocrx_word" id="word_1_1_1" title="bbox 3 0 241 48; x_wconf 97">INVOICE</span></span></p></div></div>
</body></html>
"""
_ALTO_EXAMPLE = """<?xml version="1.0" encoding="UTF-8"?>
<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#" SCHEMAVERSION="4.4">
  <Description><MeasurementUnit>pixel</MeasurementUnit></Description>
  <Layout>
    <Page ID="page_1" PHYSICAL_IMG_NR="1" WIDTH="412" HEIGHT="48" PC="0.9731">
      <PrintSpace HPOS="0" VPOS="0" WIDTH="412" HEIGHT="48">
        <TextBlock ID="block_1" HPOS="0" VPOS="0" WIDTH="412" HEIGHT="48">
          <TextLine ID="line_1_1" BASELINE="0.0,38.4 412.0,38.4" HPOS="0" VPOS="0" WIDTH="412" HEIGHT="48">
            <String ID="string_1_1_1" CONTENT="INVOICE" WC="0.97" HPOS="3" VPOS="0" WIDTH="238" HEIGHT="48" />
          </TextLine>
        </TextBlock>
      </PrintSpace>
    </Page>
  </Layout>
</alto>
"""

_TSV_EXAMPLE = """level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext
1\t1\t0\t0\t0\t0\t0\t0\t412\t48\t-1\t
2\t1\t1\t0\t0\t0\t3\t9\t238\t30\t-1\t
3\t1\t1\t1\t0\t0\t3\t9\t238\t30\t-1\t
4\t1\t1\t1\t1\t0\t3\t9\t238\t30\t-1\t
5\t1\t1\t1\t1\t1\t3\t9\t238\t30\t97.310000\tINVOICE
"""

_FORMATS: dict[str, Any] = {
    "text/plain": {"schema": {"type": "string"}, "example": "INVOICE 1042\n"},
    "text/vnd.hocr+html": {"schema": {"type": "string"}, "example": _HOCR_EXAMPLE},
    "text/html": {"schema": {"type": "string"}, "example": _HOCR_EXAMPLE},
    "application/alto+xml": {"schema": {"type": "string"}, "example": _ALTO_EXAMPLE},
    "application/xml": {"schema": {"type": "string"}, "example": _ALTO_EXAMPLE},
    "text/xml": {"schema": {"type": "string"}, "example": _ALTO_EXAMPLE},
    "text/tab-separated-values": {"schema": {"type": "string"}, "example": _TSV_EXAMPLE},
    "application/pdf": {"schema": _BINARY},
}

# Keyword arguments of the route decorators.

RECOGNIZE: dict[str, Any] = {
    "summary": "Read the text of one image",
    "description": """Send one image as the multipart field `file`, as the raw body, or as base64 in JSON.

By default (`mode=auto`) the image is read as one line of text and, where that is not sure, as a page as well; the
likelier result counts. `mode=line` and `mode=page` decide that beforehand. PDF and TIFF of several pages are pages.

Options go in the query, in form fields, or beside the image in the JSON body.

The `Accept` header selects the format: JSON, plain text laid out as on the page, hOCR, ALTO, a table of words, or a
searchable PDF with an invisible text layer over the page images.""",
    "responses": _PROBLEMS
    | {200: {"description": "The text, in the format selected by the `Accept` header.", "content": _FORMATS}},
    "openapi_extra": {"requestBody": _RECOGNIZE_BODY},
}

RECOGNIZE_BATCH: dict[str, Any] = {
    "summary": "Read the text of several images",
    "description": """Send several images as multipart fields `files` or in JSON. All are admitted, or none.

With `Accept: application/x-ndjson`, each result is sent as soon as it is ready, in any order; a line with the summary
ends the stream. Otherwise, one JSON document holds the results in request order.""",
    "responses": _BATCH_PROBLEMS
    | {200: {"description": "One result per image; a failed image has an `error`.", "content": {NDJSON: {}}}},
    "openapi_extra": {"requestBody": _BATCH_BODY},
}

MODELS: dict[str, Any] = {
    "summary": "List the models",
    "description": "Name, weights hash and device of each model that this process serves.",
    "responses": {status: _PROBLEMS[status] for status in (401, 429, 503)},
}

LIVE: dict[str, Any] = {
    "summary": "Liveness probe",
    "description": "200 while the process works; 503 when the model has failed or is stuck and a restart is needed.",
    "responses": _UNHEALTHY,
}

READY: dict[str, Any] = {
    "summary": "Readiness probe",
    "description": "200 when the model is loaded and warm; 503 while starting, failed, nearly full or draining.",
    "responses": _UNHEALTHY,
}

METRICS: dict[str, Any] = {
    "summary": "Prometheus metrics",
    "description": "Queue, batch, failure and request metrics in the Prometheus text format.",
    "responses": {
        200: {"description": "The metrics.", "content": {METRICS_CONTENT_TYPE.partition(";")[0]: {}}},
        401: _PROBLEMS[401],
        429: _PROBLEMS[429],
    },
}

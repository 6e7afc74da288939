"""Content negotiation, and the JSON responses of the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from python_multipart.multipart import parse_options_header

from linewise.service.api.options import Detail, Options
from linewise.service.api.schemas import BatchItem, BatchSummary, ModelInfo, Problem, RecognizeResponse, Timing
from linewise.service.errors import NotAcceptable, ServiceError, problem
from linewise.service.formats.formats import Format
from linewise.service.formats.json_document import document_fields
from linewise.service.inference.loading import LineReader
from linewise.service.inference.pipeline import RecognitionResult

MEDIA_TYPES = {
    "application/json": Format.JSON,
    "text/plain": Format.TEXT,
    "text/vnd.hocr+html": Format.HOCR,
    "application/alto+xml": Format.ALTO,
    "text/tab-separated-values": Format.TSV,
    "application/pdf": Format.PDF,
}

# Ignored for clients that also accept */*: browsers list these types by default, and mean web pages.
GENERIC_MEDIA_TYPES = {"text/html": Format.HOCR, "application/xml": Format.ALTO, "text/xml": Format.ALTO}


def negotiate(accept: str) -> tuple[Format, str]:
    """Return the preferred format and media type of an ``Accept`` header; JSON for an empty one.

    Of types with equal quality, an explicitly named one comes before one that matches a wildcard, then the order of
    ``MEDIA_TYPES`` decides. Raises ``NotAcceptable``.
    """
    qualities = dict(_media_ranges(accept))
    if not accept.strip():
        qualities["*/*"] = 1.0
    best: tuple[float, int] = (0.0, 0)
    choice: tuple[Format, str] | None = None
    for media_type, output_format in (MEDIA_TYPES if "*/*" in qualities else MEDIA_TYPES | GENERIC_MEDIA_TYPES).items():
        ranges = ("*/*", media_type.partition("/")[0] + "/*", media_type)  # the most specific one counts
        matches = ((i, qualities[name]) for i, name in enumerate(ranges) if name in qualities)
        specificity, quality = max(matches, default=(0, 0.0))
        if quality > 0 and (quality, specificity) > best:
            best, choice = (quality, specificity), (output_format, media_type)
    if choice is None:
        raise NotAcceptable(f"The Accept header names none of {', '.join(MEDIA_TYPES)}.")
    return choice


def _media_ranges(accept: str) -> Iterator[tuple[str, float]]:
    """Media ranges of an ``Accept`` header with their qualities; malformed ones are skipped."""
    for part in accept.split(","):
        name, parameters = parse_options_header(part.strip())
        try:
            quality = float(parameters.get(b"q", b"1"))
        except ValueError:
            continue
        if 0.0 <= quality <= 1.0:
            yield name.decode("latin-1").lower(), quality


def single(
    request_id: str, reader: LineReader, result: RecognitionResult, options: Options, total: float
) -> RecognizeResponse:
    """Build the response for one image; ``total`` is in seconds."""
    return RecognizeResponse(
        request_id=request_id,
        model=_model_info(reader),
        timing_ms=timing(result, total),
        **_text_fields(result, options),
    )


def timing(result: RecognitionResult, total: float) -> Timing:
    """Break down the time of a response; ``total`` is in seconds."""
    return Timing(
        decode=_milliseconds(result.decode_time),
        queue=_milliseconds(result.queue_time),
        inference=_milliseconds(result.inference_time),
        total=_milliseconds(total),
    )


def item(index: int, name: str | None, result: RecognitionResult, options: Options) -> BatchItem:
    """Build the outcome for one image of a batch."""
    return BatchItem(index=index, id=name, status="ok", **_text_fields(result, options))


def failed_item(index: int, name: str | None, error: ServiceError) -> BatchItem:
    """Build the outcome for one image of a batch that failed."""
    return BatchItem(index=index, id=name, status="error", error=Problem.model_validate(problem(error)))


def summary(request_id: str, reader: LineReader, total: int, failed: int, seconds: float) -> BatchSummary:
    """Build the summary of a batch."""
    return BatchSummary(
        request_id=request_id,
        model=_model_info(reader),
        total=total,
        ok=total - failed,
        error=failed,
        total_ms=_milliseconds(seconds),
    )


def _text_fields(result: RecognitionResult, options: Options) -> dict[str, Any]:
    fields = document_fields(
        result.document,
        with_words=options.detail is not Detail.TEXT,
        with_characters=options.detail is Detail.CHARS,
        with_alternatives=options.alternatives > 0,
    )
    if options.mode == "line":
        del fields["mode"]  # stated only where it is not the default
    return fields


def _model_info(reader: LineReader) -> ModelInfo:
    return ModelInfo(id=reader.model_id, revision=reader.revision)


def _milliseconds(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000.0, 2)

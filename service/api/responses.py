"""Readings to the JSON of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from linewise.service.api.options import Detail, Options
from linewise.service.api.schemas import (
    AlternativeInfo,
    BatchItem,
    BatchSummary,
    CharacterInfo,
    ImageInfo,
    LineInfo,
    ModelInfo,
    PageInfo,
    Problem,
    RecognizeResponse,
    TextAnswer,
    Timing,
)
from linewise.service.errors import ServiceError, problem
from linewise.service.inference.engine import LineReader, Recognition
from linewise.service.inference.pipeline import DocumentRecognition, Outcome, PageRecognition

if TYPE_CHECKING:
    from linewise.model import Character, PageLine, Reading


def model_info(reader: LineReader) -> ModelInfo:
    """Which weights answer."""
    return ModelInfo(id=reader.model_id, revision=reader.revision)


def single(request_id: str, reader: LineReader, result: Outcome, options: Options, total: float) -> RecognizeResponse:
    """The answer for one image; ``total`` in seconds."""
    return RecognizeResponse(
        request_id=request_id,
        model=model_info(reader),
        timing_ms=timing(result, total),
        **dict(text_answer(result, options)),
    )


def timing(result: Outcome, total: float) -> Timing:
    """Where the time of an answer went; ``total`` in seconds."""
    return Timing(
        decode=milliseconds(result.decode_time),
        queue=milliseconds(result.queue_time),
        inference=milliseconds(result.inference_time),
        total=milliseconds(total),
    )


def item(index: int, name: str | None, result: Outcome, options: Options) -> BatchItem:
    """The answer for one of several images."""
    return BatchItem(index=index, id=name, status="ok", **dict(text_answer(result, options)))


def failed_item(index: int, name: str | None, error: ServiceError) -> BatchItem:
    """The answer for one of several images that could not be read."""
    return BatchItem(index=index, id=name, status="error", error=Problem.model_validate(problem(error)))


def summary(request_id: str, reader: LineReader, total: int, failed: int, seconds: float) -> BatchSummary:
    """How a request for several images went."""
    return BatchSummary(
        request_id=request_id,
        model=model_info(reader),
        total=total,
        ok=total - failed,
        error=failed,
        total_ms=milliseconds(seconds),
    )


def text_answer(result: Outcome, options: Options) -> TextAnswer:
    """What was read, as far as the options ask for it."""
    if isinstance(result, Recognition):
        return _line_answer(result, options)
    if isinstance(result, PageRecognition):
        return _page_answer(result, options)
    return _document_answer(result, options)


def _line_answer(result: Recognition, options: Options) -> TextAnswer:
    reading = result.reading
    image = _image_info(result)
    withheld = reading.confidence < options.min_confidence
    warnings = [] if reading.text else ["no_text"]
    if withheld:
        warnings.append("low_confidence")
    characters = () if withheld else reading.characters
    return TextAnswer(
        text="" if withheld else reading.text,
        confidence=_probability(reading.confidence),
        confidence_min=_probability(reading.confidence_min),
        image=image,
        chars=[_character(one, result.image.scale, image) for one in characters]
        if options.detail is Detail.CHARS
        else None,
        alternatives=_alternatives(reading, withheld) if options.alternatives else None,
        mode=None if options.mode == "line" else "line",
        warnings=warnings,
    )


def _page_answer(result: PageRecognition, options: Options) -> TextAnswer:
    lines = [_line_info(line, result.image.scale, options) for line in result.page.lines]
    warnings = [] if lines else ["no_text"]
    if any(not line.text for line in lines):
        warnings.append("low_confidence")
    return TextAnswer(
        text="\n".join(line.text for line in lines if line.text),
        confidence=_probability(sum(line.confidence for line in lines) / max(1, len(lines))),
        confidence_min=min((line.confidence_min for line in lines), default=0.0),
        image=_image_info(result),
        mode="page",
        lines=lines,
        warnings=warnings,
    )


def _document_answer(result: DocumentRecognition, options: Options) -> TextAnswer:
    pages = [_page_answer(page, options) for page in result.pages]
    lines = [line for page in pages for line in page.lines or ()]
    warnings = {warning for page in pages for warning in page.warnings if warning != "no_text"}
    return TextAnswer(
        text="\n".join(page.text for page in pages if page.text),
        confidence=_probability(sum(line.confidence for line in lines) / max(1, len(lines))),
        confidence_min=min((line.confidence_min for line in lines), default=0.0),
        image=pages[0].image,
        mode="page",
        pages=[
            PageInfo(
                page=number,
                text=page.text,
                confidence=page.confidence,
                confidence_min=page.confidence_min,
                image=page.image,
                lines=page.lines or [],
                warnings=page.warnings,
            )
            for number, page in enumerate(pages, start=1)
        ],
        warnings=sorted(warnings) if lines else ["no_text"],
    )


def _line_info(line: PageLine, scale: float, options: Options) -> LineInfo:
    reading = line.reading
    withheld = reading.confidence < options.min_confidence
    chars = [
        CharacterInfo(text=one.text, confidence=_probability(one.confidence), polygon=_corners(line.place(one), scale))
        for one in (() if withheld else reading.characters)
    ]
    return LineInfo(
        text="" if withheld else reading.text,
        confidence=_probability(reading.confidence),
        confidence_min=_probability(reading.confidence_min),
        polygon=_corners(np.roll(line.quad, reading.turn // 90, 0), scale),  # from where the text begins
        row=line.row,
        chars=chars if options.detail is Detail.CHARS else None,
        alternatives=_alternatives(reading, withheld) if options.alternatives else None,
    )


def _corners(quad: npt.NDArray[np.float32], scale: float) -> list[tuple[float, float]]:
    return [(round(float(x) * scale, 1), round(float(y) * scale, 1)) for x, y in quad]


def _alternatives(reading: Reading, withheld: bool) -> list[AlternativeInfo]:
    others = () if withheld else reading.alternatives
    return [AlternativeInfo(text=one.text, confidence=_probability(one.confidence)) for one in others]


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds to two decimals."""
    return round(max(0.0, seconds) * 1000.0, 2)


def _image_info(result: Recognition | PageRecognition) -> ImageInfo:
    image = result.image
    size = (image.width, image.height) if result.turn % 180 == 0 else (image.height, image.width)
    return ImageInfo(
        width=size[0],
        height=size[1],
        format=image.format,
        orientation_applied=(image.orientation_applied + result.turn) % 360,
    )


def _character(character: Character, scale: float, image: ImageInfo) -> CharacterInfo:
    """The model knows where a character begins and ends; its box is as high as the line."""
    left = round(min(max(0.0, character.start * scale), image.width), 1)
    right = round(min(max(left, character.end * scale), image.width), 1)
    return CharacterInfo(
        text=character.text,
        confidence=_probability(character.confidence),
        polygon=[(left, 0.0), (right, 0.0), (right, image.height), (left, image.height)],
    )


def _probability(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4)

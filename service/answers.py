"""Readings to the JSON of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.engine import LineReader, Recognition
from service.errors import ServiceError, problem
from service.options import Detail, Options
from service.schemas import (
    AlternativeInfo,
    BatchItem,
    BatchSummary,
    CharacterInfo,
    ImageInfo,
    ModelInfo,
    Problem,
    RecognizeResponse,
    TextAnswer,
    Timing,
)

if TYPE_CHECKING:
    from model import Character


def model_info(reader: LineReader) -> ModelInfo:
    """Which weights answer."""
    return ModelInfo(id=reader.model_id, revision=reader.revision)


def single(
    request_id: str, reader: LineReader, result: Recognition, options: Options, total: float
) -> RecognizeResponse:
    """The answer for one image; ``total`` in seconds."""
    return RecognizeResponse(
        request_id=request_id,
        model=model_info(reader),
        timing_ms=Timing(
            decode=milliseconds(result.decode_time),
            queue=milliseconds(result.queue_time),
            inference=milliseconds(result.inference_time),
            total=milliseconds(total),
        ),
        **dict(text_answer(result, options)),
    )


def item(index: int, name: str | None, result: Recognition, options: Options) -> BatchItem:
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


def text_answer(result: Recognition, options: Options) -> TextAnswer:
    """What was read, as far as the options ask for it."""
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
        alternatives=[
            AlternativeInfo(text=one.text, confidence=_probability(one.confidence))
            for one in ([] if withheld else reading.alternatives)
        ]
        if options.alternatives
        else None,
        warnings=warnings,
    )


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds to two decimals."""
    return round(max(0.0, seconds) * 1000.0, 2)


def _image_info(result: Recognition) -> ImageInfo:
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

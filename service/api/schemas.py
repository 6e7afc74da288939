"""What goes over the wire, with examples for the OpenAPI page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0)]
Encoded = Annotated[
    str,
    Field(description="Base64 of the image file, or a data: URI with it.", json_schema_extra={"format": "byte"}),
]


class RecognizeBody(BaseModel):
    """The JSON form of a request: the image as base64, alone or in a data: URI; options are members beside it."""

    model_config = ConfigDict(extra="allow")

    image: Encoded


class BatchImage(BaseModel):
    """One of several images; the answer repeats its id."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(default=None, max_length=256, examples=["receipt-7"])
    image: Encoded


class BatchBody(BaseModel):
    """The JSON form of a request for several images; options are members beside them."""

    model_config = ConfigDict(extra="allow")

    images: list[BatchImage] = Field(min_length=1)


class Answer(BaseModel):
    """What answers are made of; an error about one, which goes into the log, does not repeat the text in it."""

    model_config = ConfigDict(hide_input_in_errors=True)


class ModelInfo(Answer):
    """Which weights gave the answer."""

    id: str = Field(examples=["linewise"])
    revision: str = Field(description="SHA-256 of the weights.", examples=["sha256:9f86d081884c7d65"])


class ImageInfo(Answer):
    """The image as it was understood; width and height in pixels, after turning it upright."""

    width: int = Field(examples=[412])
    height: int = Field(examples=[48])
    format: str = Field(examples=["PNG"])
    orientation_applied: int = Field(description="Clockwise turn that was made, in degrees.", examples=[0])


class CharacterInfo(Answer):
    """One character: clockwise corners from its own top left, in pixels of the upright image."""

    text: str = Field(examples=["I"])
    confidence: Probability = Field(examples=[0.997])
    polygon: list[tuple[float, float]] = Field(examples=[[[3, 0], [11, 0], [11, 48], [3, 48]]])


class AlternativeInfo(Answer):
    """Another text that the image may hold."""

    text: str = Field(examples=["INVOlCE 1042"])
    confidence: Probability = Field(description="Probability that the whole of it is right.", examples=[0.021])


class LineInfo(Answer):
    """One line of a page: clockwise corners from where its text begins on top, in pixels of the upright image."""

    text: str = Field(description="Empty when it is less confident than `min_confidence`.", examples=["TOTAL 12.50"])
    confidence: Probability = Field(description="Probability that the whole line is right.", examples=[0.9731])
    confidence_min: Probability = Field(description="Confidence of the weakest character.", examples=[0.88])
    polygon: list[tuple[float, float]] = Field(examples=[[[30, 52], [410, 50], [410, 78], [30, 80]]])
    row: int = Field(description="Lines of one row stand side by side, as cells do; from 0, downwards.", examples=[4])
    chars: list[CharacterInfo] | None = Field(default=None, description="With `detail=chars`.")
    alternatives: list[AlternativeInfo] | None = Field(default=None, description="With `alternatives` above 0.")


class PageInfo(Answer):
    """One page of a document with several."""

    page: int = Field(description="From 1.", examples=[1])
    text: str = Field(description="Its lines, joined by newlines.", examples=["INVOICE 1042\nTOTAL 12.50"])
    confidence: Probability = Field(description="Mean of its lines'.", examples=[0.9731])
    confidence_min: Probability = Field(description="Confidence of the weakest character.", examples=[0.88])
    image: ImageInfo
    lines: list[LineInfo] = Field(description="In reading order.")
    warnings: list[str] = Field(description="`no_text`, `low_confidence`.", examples=[[]])


class Timing(Answer):
    """Where the time went, in milliseconds."""

    decode: Milliseconds = Field(examples=[2.1])
    queue: Milliseconds = Field(examples=[0.6])
    inference: Milliseconds = Field(examples=[7.9])
    total: Milliseconds = Field(examples=[11.4])


class Envelope(Answer):
    """What every answer with text begins with."""

    request_id: str = Field(examples=["5f0c6b1e8b6f4c55a3f7f2f0e2b1c9d4"])
    model: ModelInfo


class TextAnswer(Answer):
    """What was read in one image."""

    text: str = Field(
        description="Empty when there is no text; `warnings` then says why. A page has its lines joined by newlines.",
        examples=["INVOICE 1042"],
    )
    confidence: Probability = Field(
        description="Probability that the whole text is right; of a page, the mean of its lines'.", examples=[0.9731]
    )
    confidence_min: Probability = Field(description="Confidence of the weakest character.", examples=[0.88])
    image: ImageInfo
    chars: list[CharacterInfo] | None = Field(default=None, description="With `detail=chars`.")
    alternatives: list[AlternativeInfo] | None = Field(
        default=None, description="With `alternatives` above 0: the next best texts, the likeliest first."
    )
    mode: Literal["line", "page"] | None = Field(
        default=None, description="With `mode=page` or `auto`: what the image was taken for."
    )
    lines: list[LineInfo] | None = Field(default=None, description="Of a page: its lines in reading order.")
    pages: list[PageInfo] | None = Field(
        default=None,
        description="Of a PDF or TIFF with several pages, in place of `lines`; `image` is the first one's.",
    )
    warnings: list[str] = Field(description="`no_text`, `low_confidence`.", examples=[[]])


class RecognizeResponse(TextAnswer, Envelope):
    """The text of one image."""

    timing_ms: Timing


class Problem(Answer):
    """An RFC 9457 problem document; `code` is stable and meant for programs."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    code: str = Field(examples=["undecodable"])
    detail: str = Field(examples=["The image is corrupt or cut short."])
    request_id: str | None = Field(default=None, examples=["5f0c6b1e8b6f4c55a3f7f2f0e2b1c9d4"])


class BatchItem(Answer):
    """The outcome for one of several images: the fields of a single answer, or `error`."""

    index: int = Field(description="Place in the request, from 0.", examples=[0])
    id: str | None = Field(default=None, description="The id given, or the file's name.", examples=["receipt-7"])
    status: str = Field(description="`ok` or `error`.", examples=["ok"])
    error: Problem | None = None
    text: str | None = Field(default=None, examples=["TOTAL 12.50"])
    confidence: Probability | None = Field(default=None, examples=[0.9731])
    confidence_min: Probability | None = Field(default=None, examples=[0.88])
    image: ImageInfo | None = None
    chars: list[CharacterInfo] | None = None
    alternatives: list[AlternativeInfo] | None = None
    mode: Literal["line", "page"] | None = None
    lines: list[LineInfo] | None = None
    pages: list[PageInfo] | None = None
    warnings: list[str] | None = Field(default=None, examples=[[]])


class BatchSummary(Envelope):
    """How a request for several images went; also the last line of a stream."""

    total: int = Field(examples=[2])
    ok: int = Field(examples=[1])
    error: int = Field(examples=[1])
    total_ms: Milliseconds = Field(examples=[48.2])


class BatchResponse(Answer):
    """The outcome for each image, in the order of the request."""

    results: list[BatchItem]
    summary: BatchSummary


class ModelCard(ModelInfo):
    """One model that this process serves."""

    device: str = Field(description="Where it runs.", examples=["cpu"])


class ModelList(Answer):
    """The models that this process serves."""

    models: list[ModelCard]


class Health(Answer):
    """One word on the state of the process."""

    status: str = Field(examples=["ready"])

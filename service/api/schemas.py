"""Request bodies and responses of the API, with examples for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0)]
Encoded = Annotated[
    str,
    Field(description="The image file as base64, bare or in a data: URI.", json_schema_extra={"format": "byte"}),
]


class RecognizeBody(BaseModel):
    """JSON body of a request for one image; options are additional members."""

    model_config = ConfigDict(extra="allow")

    image: Encoded


class BatchImage(BaseModel):
    """One image of a batch; its outcome repeats the id."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(default=None, max_length=256, examples=["receipt-7"])
    image: Encoded


class BatchBody(BaseModel):
    """JSON body of a request for several images; options are additional members."""

    model_config = ConfigDict(extra="allow")

    images: list[BatchImage] = Field(min_length=1)


class ResponseModel(BaseModel):
    """Base of responses; validation errors, which are logged, do not contain the recognised text."""

    model_config = ConfigDict(hide_input_in_errors=True)


class ModelInfo(ResponseModel):
    """Model that produced the response."""

    id: str = Field(examples=["linewise"])
    revision: str = Field(description="SHA-256 hash of the weights.", examples=["sha256:9f86d081884c7d65"])


class ImageInfo(ResponseModel):
    """The decoded image; width and height are in pixels of the upright image."""

    width: int = Field(examples=[412])
    height: int = Field(examples=[48])
    format: str = Field(examples=["PNG"])
    orientation_applied: int = Field(description="Clockwise rotation that was applied, in degrees.", examples=[0])


class WordInfo(ResponseModel):
    """One word; its polygon fits the ink, clockwise from its own top left corner, in pixels of the upright image."""

    text: str = Field(examples=["INVOICE"])
    confidence: Probability = Field(description="Confidence of the weakest character.", examples=[0.88])
    polygon: list[tuple[float, float]] = Field(examples=[[[3, 9], [241, 9], [241, 39], [3, 39]]])


class CharacterInfo(ResponseModel):
    """One character; its polygon fits the ink, as that of a word does."""

    text: str = Field(examples=["I"])
    confidence: Probability = Field(examples=[0.997])
    polygon: list[tuple[float, float]] = Field(examples=[[[3, 9], [8, 9], [8, 39], [3, 39]]])


class AlternativeInfo(ResponseModel):
    """Another candidate for the text."""

    text: str = Field(examples=["INVOlCE 1042"])
    confidence: Probability = Field(description="Probability that the whole text is right.", examples=[0.021])


class LineInfo(ResponseModel):
    """One line of a page; its polygon starts at the top left corner of the text, in pixels of the upright image."""

    text: str = Field(description="Empty if its confidence is below `min_confidence`.", examples=["TOTAL 12.50"])
    confidence: Probability = Field(description="Probability that the whole line is right.", examples=[0.9731])
    confidence_min: Probability = Field(description="Confidence of the weakest character.", examples=[0.88])
    polygon: list[tuple[float, float]] = Field(examples=[[[30, 52], [410, 50], [410, 78], [30, 80]]])
    row: int = Field(description="Row of the page, from 0 at the top; cells side by side share a row.", examples=[4])
    words: list[WordInfo] | None = Field(default=None, description="With `detail=words` or `chars`.")
    chars: list[CharacterInfo] | None = Field(default=None, description="With `detail=chars`.")
    alternatives: list[AlternativeInfo] | None = Field(default=None, description="With `alternatives` above 0.")


class PageInfo(ResponseModel):
    """One page of a multi-page document."""

    page: int = Field(description="Page number, from 1.", examples=[1])
    text: str = Field(
        description="Rows joined by newlines, their cells by tabs.", examples=["INVOICE 1042\nTOTAL 12.50"]
    )
    confidence: Probability = Field(description="Mean confidence of the lines.", examples=[0.9731])
    confidence_min: Probability = Field(description="Confidence of the weakest character.", examples=[0.88])
    image: ImageInfo
    lines: list[LineInfo] = Field(description="In reading order.")
    warnings: list[str] = Field(description="`no_text`, `low_confidence`.", examples=[[]])


class Timing(ResponseModel):
    """Time spent per stage, in milliseconds."""

    decode: Milliseconds = Field(examples=[2.1])
    queue: Milliseconds = Field(examples=[0.6])
    inference: Milliseconds = Field(examples=[7.9])
    total: Milliseconds = Field(examples=[11.4])


class Envelope(ResponseModel):
    """Fields common to all responses with text."""

    request_id: str = Field(examples=["5f0c6b1e8b6f4c55a3f7f2f0e2b1c9d4"])
    model: ModelInfo


class RecognizedText(ResponseModel):
    """Text of one image or document."""

    text: str = Field(
        description="Empty without text, with the reason in `warnings`. The rows of a page are joined by newlines,"
        " their cells by tabs.",
        examples=["INVOICE 1042"],
    )
    confidence: Probability = Field(
        description="Probability that the whole text is right; for a page, the mean over its lines.", examples=[0.9731]
    )
    confidence_min: Probability = Field(description="Confidence of the weakest character.", examples=[0.88])
    image: ImageInfo
    words: list[WordInfo] | None = Field(default=None, description="With `detail=words` or `chars`.")
    chars: list[CharacterInfo] | None = Field(default=None, description="With `detail=chars`.")
    alternatives: list[AlternativeInfo] | None = Field(
        default=None, description="With `alternatives` above 0: the next best texts, most probable first."
    )
    mode: Literal["line", "page"] | None = Field(
        default=None, description="How the image was read; left out with `mode=line`."
    )
    lines: list[LineInfo] | None = Field(default=None, description="For a page: its lines in reading order.")
    pages: list[PageInfo] | None = Field(
        default=None,
        description="For a PDF or TIFF with several pages, instead of `lines`; `image` describes the first page.",
    )
    warnings: list[str] = Field(description="`no_text`, `low_confidence`.", examples=[[]])


class RecognizeResponse(RecognizedText, Envelope):
    """Response for one image."""

    timing_ms: Timing


class Problem(ResponseModel):
    """Problem details (RFC 9457); `code` is a stable identifier for programs."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    code: str = Field(examples=["undecodable"])
    detail: str = Field(examples=["The image is corrupt or cut short."])
    request_id: str | None = Field(default=None, examples=["5f0c6b1e8b6f4c55a3f7f2f0e2b1c9d4"])


class BatchItem(ResponseModel):
    """Outcome for one image of a batch: the fields of a single response, or `error`."""

    index: int = Field(description="Position in the request, from 0.", examples=[0])
    id: str | None = Field(
        default=None, description="The id from the request, or the file name.", examples=["receipt-7"]
    )
    status: str = Field(description="`ok` or `error`.", examples=["ok"])
    error: Problem | None = None
    text: str | None = Field(default=None, examples=["TOTAL 12.50"])
    confidence: Probability | None = Field(default=None, examples=[0.9731])
    confidence_min: Probability | None = Field(default=None, examples=[0.88])
    image: ImageInfo | None = None
    words: list[WordInfo] | None = None
    chars: list[CharacterInfo] | None = None
    alternatives: list[AlternativeInfo] | None = None
    mode: Literal["line", "page"] | None = None
    lines: list[LineInfo] | None = None
    pages: list[PageInfo] | None = None
    warnings: list[str] | None = Field(default=None, examples=[[]])


class BatchSummary(Envelope):
    """Summary of a batch; also the last line of a stream."""

    total: int = Field(examples=[2])
    ok: int = Field(examples=[1])
    error: int = Field(examples=[1])
    total_ms: Milliseconds = Field(examples=[48.2])


class BatchResponse(ResponseModel):
    """Response for several images, in the order of the request."""

    results: list[BatchItem]
    summary: BatchSummary


class ModelCard(ModelInfo):
    """A model that this process serves."""

    device: str = Field(description="Device that the model runs on.", examples=["cpu"])


class ModelList(ResponseModel):
    """Models that this process serves."""

    models: list[ModelCard]


class Health(ResponseModel):
    """State of the process."""

    status: str = Field(examples=["ready"])

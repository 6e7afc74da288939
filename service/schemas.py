"""What goes over the wire, with examples for the OpenAPI page."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0)]

# A 1 x 1 PNG: short enough to print, long enough to show the form.
_TINY_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="


class RecognizeBody(BaseModel):
    """The JSON form of a request: the image as base64, alone or in a data: URI."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"image": f"data:image/png;base64,{_TINY_PNG}"}]}
    )

    image: str = Field(description="Base64 of the image file, or a data: URI with it.")


class ModelInfo(BaseModel):
    """Which weights gave the answer."""

    id: str = Field(examples=["linewise"])
    revision: str = Field(description="SHA-256 of the weights.", examples=["sha256:9f86d081884c7d65"])


class ImageInfo(BaseModel):
    """The image as it was understood; width and height in pixels, after turning it upright."""

    width: int = Field(examples=[412])
    height: int = Field(examples=[48])
    format: str = Field(examples=["PNG"])
    orientation_applied: int = Field(description="Clockwise turn that was made, in degrees.", examples=[0])


class Timing(BaseModel):
    """Where the time went, in milliseconds."""

    decode: Milliseconds = Field(examples=[2.1])
    queue: Milliseconds = Field(examples=[0.6])
    inference: Milliseconds = Field(examples=[7.9])
    total: Milliseconds = Field(examples=[11.4])


class RecognizeResponse(BaseModel):
    """The text of one image."""

    request_id: str = Field(examples=["5f0c6b1e8b6f4c55a3f7f2f0e2b1c9d4"])
    model: ModelInfo
    text: str = Field(description="Empty when there is no text; `warnings` then says `no_text`.", examples=["INVOICE"])
    confidence: Probability = Field(description="Probability that the whole text is right.", examples=[0.9731])
    confidence_min: Probability = Field(description="Confidence of the weakest character.", examples=[0.88])
    image: ImageInfo
    warnings: list[str] = Field(examples=[[]])
    timing_ms: Timing


class Problem(BaseModel):
    """An RFC 9457 problem document; `code` is stable and meant for programs."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    code: str = Field(examples=["undecodable"])
    detail: str = Field(examples=["The image is corrupt or cut short."])
    request_id: str = Field(default="", examples=["5f0c6b1e8b6f4c55a3f7f2f0e2b1c9d4"])


class ModelCard(ModelInfo):
    """One model that this process serves."""

    device: str = Field(description="Where it runs.", examples=["cpu"])


class ModelList(BaseModel):
    """The models that this process serves."""

    models: list[ModelCard]


class Health(BaseModel):
    """One word on the state of the process."""

    status: str = Field(examples=["ready"])


RECOGNIZE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary", "description": "The image file."}},
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {
            "schema": RecognizeBody.model_json_schema(),
            "example": {"image": f"data:image/png;base64,{_TINY_PNG}"},
        },
    },
}

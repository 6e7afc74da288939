"""Bodies of the Open Inference Protocol, with examples for the OpenAPI document.

Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol and its extension for binary
tensors.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from linewise.service.api.schemas import ResponseModel

MAX_DIMENSIONS = 8
MAX_TENSORS = 8  # inputs or outputs of a request

OutputName = Literal["boxes", "txts", "scores"]


def whole(value: Any) -> Any:
    """Return a number without fraction, such as 3.0, as an integer: in JSON they are equal."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Size = Annotated[int, BeforeValidator(whole), Field(strict=True, ge=0, lt=2**63)]


class InputParameters(BaseModel):
    """Parameters of an input; those of other servers are ignored."""

    binary_data_size: Size | None = None


class InputTensor(BaseModel):
    """One input; without ``data``, its bytes follow the JSON document."""

    name: str
    shape: list[Size] = Field(max_length=MAX_DIMENSIONS, fail_fast=True)
    datatype: str
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None


class OutputParameters(BaseModel):
    """Parameters of a requested output."""

    binary_data: bool | None = None


class RequestedOutput(BaseModel):
    """One output to return."""

    name: OutputName
    parameters: OutputParameters = OutputParameters()


class InferRequest(BaseModel):
    """Body of an inference request; ``parameters`` holds the options of ``/recognize``."""

    model_config = ConfigDict(hide_input_in_errors=True)

    id: str | None = Field(default=None, max_length=256)
    inputs: list[InputTensor] = Field(min_length=1, max_length=MAX_TENSORS, fail_fast=True)
    outputs: list[RequestedOutput] = Field(default_factory=list, max_length=MAX_TENSORS, fail_fast=True)
    parameters: dict[str, Any] = Field(default_factory=dict)


class OutputTensor(ResponseModel):
    """One output, with its values in row-major order; a binary one has ``binary_data_size`` instead."""

    name: OutputName = Field(examples=["txts"])
    datatype: Literal["FP32", "BYTES"] = Field(examples=["BYTES"])
    shape: list[int] = Field(examples=[[1]])
    parameters: dict[str, int] | None = Field(default=None, examples=[{"binary_data_size": 19}])
    data: list[float] | list[str] | None = Field(default=None, examples=[["TOTAL EUR 12.50"]])


class InferResponse(ResponseModel):
    """Response to an inference request."""

    model_name: str = Field(examples=["linewise"])
    model_version: str = Field(examples=["1"])
    id: str | None = Field(default=None, description="The id of the request.", examples=["page-7"])
    parameters: dict[str, str] = Field(
        description="`revision`: SHA-256 hash of the weights.", examples=[{"revision": "sha256:9f86d081884c7d65"}]
    )
    outputs: list[OutputTensor]


class TensorMetadata(ResponseModel):
    """Name, type and shape of a tensor; -1 is any size."""

    name: str = Field(examples=["image"])
    datatype: str = Field(examples=["UINT8"])
    shape: list[int] = Field(examples=[[1, -1, -1, 3]])


class ModelMetadata(ResponseModel):
    """Inputs and outputs of the model."""

    name: str = Field(examples=["linewise"])
    versions: list[str] = Field(examples=[["1"]])
    platform: str = Field(examples=["linewise"])
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(ResponseModel):
    """Name, version and protocol extensions of the server."""

    name: str = Field(examples=["linewise"])
    version: str = Field(examples=["0.1.0"])
    extensions: list[str] = Field(examples=[["binary_tensor_data"]])


class ErrorObject(ResponseModel):
    """Error of a route of this protocol."""

    error: str = Field(examples=["image: the shape must be [1, height, width, 3]."])

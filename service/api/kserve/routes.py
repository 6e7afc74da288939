"""Routes of the Open Inference Protocol, which share admission and recognition with ``/recognize``."""

from __future__ import annotations

import time

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from linewise import __version__
from linewise.service.api import responses
from linewise.service.api.kserve import openapi
from linewise.service.api.kserve.outputs import infer_response
from linewise.service.api.kserve.requests import parse_inference
from linewise.service.api.kserve.schemas import InferResponse, ModelMetadata, ServerMetadata, TensorMetadata
from linewise.service.api.options import QueryOptions, merge
from linewise.service.api.routes import (
    Timeout,
    deadline_of,
    engine_of,
    ready,
    recognition_options_of,
    recognized,
    settings_of,
    with_page_timeout,
)
from linewise.service.errors import INFERENCE_PATH
from linewise.service.formats.formats import Format
from linewise.service.middleware.auth import identify, identify_and_charge

NAME = "linewise"
VERSION = "1"  # of the tensors, not of the weights
MODEL_PATH = f"{INFERENCE_PATH}{NAME}"
VERSION_PATH = f"{MODEL_PATH}/versions/{VERSION}"
INFER_PATHS = (f"{MODEL_PATH}/infer", f"{VERSION_PATH}/infer")

_METADATA = ModelMetadata(
    name=NAME,
    versions=[VERSION],
    platform=NAME,
    inputs=[
        TensorMetadata(name="image", datatype="UINT8", shape=[1, -1, -1, 3]),
        TensorMetadata(name="lang_type", datatype="BYTES", shape=[1, 1]),
    ],
    outputs=[
        TensorMetadata(name="boxes", datatype="FP32", shape=[-1, 4, 2]),
        TensorMetadata(name="txts", datatype="BYTES", shape=[-1]),
        TensorMetadata(name="scores", datatype="FP32", shape=[-1]),
    ],
)

router = APIRouter(tags=["inference"])


@router.post(
    INFER_PATHS[0],
    response_model=InferResponse,
    dependencies=[Depends(identify_and_charge)],
    **openapi.INFER,
)
@router.post(INFER_PATHS[1], dependencies=[Depends(identify_and_charge)], include_in_schema=False)
async def infer(request: Request, timeout: Timeout = None) -> Response:
    """Read the text of one RGB image."""
    started = time.monotonic()
    engine, settings = engine_of(request), settings_of(request)
    is_default = timeout is None
    timeout = min(timeout or settings.request_timeout, settings.max_request_timeout)
    engine.check(started + timeout, request.state.client)  # rejects before megabytes are received
    inference = await parse_inference(request, engine.offload)
    deadline = deadline_of(request, timeout)
    options = merge(QueryOptions(mode="page"), inference.upload.options)
    recognition_options = await recognition_options_of(engine, options, Format.JSON)
    if is_default:
        recognition_options = with_page_timeout(recognition_options, request, settings)
    async with recognized(request, inference.upload, options, recognition_options, deadline) as (_, result):
        (page,) = result.document.pages
    response = InferResponse(
        model_name=NAME,
        model_version=VERSION,
        id=inference.id,
        parameters={"revision": engine.reader.revision},
        outputs=[],
    )
    answer = infer_response(response, page, inference.outputs)
    timing = responses.timing(result, time.monotonic() - started).model_dump()
    answer.headers["Server-Timing"] = ", ".join(f"{stage};dur={duration}" for stage, duration in timing.items())
    return answer


@router.get(MODEL_PATH, response_model=ModelMetadata, dependencies=[Depends(identify)], **openapi.MODEL)
@router.get(VERSION_PATH, dependencies=[Depends(identify)], include_in_schema=False)
async def model() -> ModelMetadata:
    """Describe the model."""
    return _METADATA


@router.get("/v2", response_model=ServerMetadata, **openapi.SERVER)
async def server() -> ServerMetadata:
    """Describe the server."""
    return ServerMetadata(name=NAME, version=__version__, extensions=["binary_tensor_data"])


for _path in (MODEL_PATH, VERSION_PATH):
    router.add_api_route(f"{_path}/ready", ready, methods=["GET", "HEAD"], include_in_schema=False)

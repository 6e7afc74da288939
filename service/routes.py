"""The routes; each takes a request apart, asks the engine and puts an answer together."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from service.engine import Engine, Recognition, State
from service.errors import PROBLEM_JSON, request_id_of
from service.intake import receive_upload
from service.schemas import (
    RECOGNIZE_BODY,
    Health,
    ImageInfo,
    ModelCard,
    ModelInfo,
    ModelList,
    Problem,
    RecognizeResponse,
    Timing,
)

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text, "content": {PROBLEM_JSON: {}}}
    for status, text in {
        400: "The request cannot be taken apart: bad_request, empty_file",
        408: "The body did not arrive in time: upload_timeout",
        413: "The body is too large: body_too_large",
        415: "Not a format that is read: unsupported_image",
        422: "Of no use: undecodable, image_too_large, image_too_small, animated, invalid_option",
        503: "Not now, see Retry-After: not_ready",
    }.items()
}


def _engine(request: Request) -> Engine:
    engine = request.app.state.engine
    assert isinstance(engine, Engine)
    return engine


EngineOf = Annotated[Engine, Depends(_engine)]

recognition = APIRouter(tags=["recognition"])
service = APIRouter(tags=["service"])


@recognition.post(
    "/recognize",
    summary="Read the text of one image",
    response_model=RecognizeResponse,
    responses=_PROBLEMS,
    openapi_extra={"requestBody": RECOGNIZE_BODY},
)
async def recognize(request: Request, engine: EngineOf) -> RecognizeResponse:
    """Send one image of one line of text in one of three ways: the multipart field `file`, the bare bytes, or JSON."""
    started = time.perf_counter()
    reader = engine.reader  # a process that cannot answer says so before it takes megabytes in
    upload = await receive_upload(request)
    result = await engine.recognize(upload.unwrap)
    return _answer(
        request_id_of(request.scope),
        ModelInfo(id=reader.model_id, revision=reader.revision),
        result,
        time.perf_counter() - started,
    )


def _answer(request_id: str, model: ModelInfo, result: Recognition, total: float) -> RecognizeResponse:
    reading, image = result.reading, result.image
    return RecognizeResponse(
        request_id=request_id,
        model=model,
        text=reading.text,
        confidence=round(reading.confidence, 4),
        confidence_min=round(reading.confidence_min, 4),
        image=ImageInfo(
            width=image.width,
            height=image.height,
            format=image.format,
            orientation_applied=image.orientation_applied,
        ),
        warnings=[] if reading.text else ["no_text"],
        timing_ms=Timing(
            decode=_milliseconds(result.decode_time),
            queue=_milliseconds(result.queue_time),
            inference=_milliseconds(result.inference_time),
            total=_milliseconds(total),
        ),
    )


def _milliseconds(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000.0, 2)


@service.get("/v1/models", summary="Which models are served", response_model=ModelList, responses={503: _PROBLEMS[503]})
async def models(engine: EngineOf) -> ModelList:
    """The model's name, the hash of its weights and the device it runs on."""
    reader = engine.reader
    return ModelList(models=[ModelCard(id=reader.model_id, revision=reader.revision, device=str(reader.device))])


@service.get("/healthz/live", summary="Is the process of any use", response_model=Health)
@service.get("/v2/health/live", include_in_schema=False)
async def live(engine: EngineOf) -> Response:
    """200 while a restart would not help; 503 once the model has failed."""
    return _health(engine.state is not State.FAILED, "live", engine.state.value)


@service.get("/healthz/ready", summary="Does it take requests", response_model=Health)
@service.get("/v2/health/ready", include_in_schema=False)
async def ready(engine: EngineOf) -> Response:
    """200 once the model is loaded and warm; 503 before, after a failure and while shutting down."""
    return _health(engine.state is State.READY, "ready", engine.state.value)


def _health(good: bool, word: str, state: str) -> Response:
    return JSONResponse({"status": word if good else state}, 200 if good else 503)

"""The routes; each takes a request apart, asks the engine and puts an answer together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import JSONResponse, Response

from linewise.service.api import responses
from linewise.service.api.batch import BatchRequest
from linewise.service.api.cancellation import cancel_on_disconnect
from linewise.service.api.options import Options, QueryOptions, merge, without_null
from linewise.service.api.schemas import (
    BATCH_BODY,
    OTHER_FORMATS,
    RECOGNIZE_BODY,
    BatchResponse,
    Health,
    ModelCard,
    ModelList,
    Problem,
    RecognizeResponse,
)
from linewise.service.api.uploads import parse_batch, parse_single
from linewise.service.errors import PROBLEM_JSON, request_id_of
from linewise.service.formats import formats, searchable_pdf
from linewise.service.formats.formats import Format
from linewise.service.inference.engine import Engine, State, in_time
from linewise.service.inference.pipeline import Outcome
from linewise.service.inference.pipeline import recognize as recognize_image
from linewise.service.metrics import CONTENT_TYPE, Metrics
from linewise.service.middleware.auth import charge, identify, identify_and_charge
from linewise.service.settings import Settings

NDJSON = "application/x-ndjson"

# By reference: a model here would be documented as application/json, which no problem is sent as.
_PROBLEM = {PROBLEM_JSON: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": _PROBLEM}
    for status, text in {
        400: "The request cannot be taken apart: bad_request, empty_file",
        401: "No API key, or a wrong one: unauthorized",
        408: "The body did not arrive in time: upload_timeout",
        413: "Too much in one request: body_too_large, too_many_files",
        415: "Not a format that is read: unsupported_image",
        422: "Of no use: undecodable, image_too_large, image_too_small, animated, invalid_option",
        429: "Too often, see Retry-After: rate_limited",
        503: "Not now, see Retry-After: queue_full, not_ready, draining",
        504: "Not in time: deadline_exceeded",
    }.items()
}

_NOT_ACCEPTABLE: dict[int | str, dict[str, Any]] = {
    406: {"description": "No form of the answer that the Accept header names: not_acceptable", "content": _PROBLEM}
}

_UNHEALTHY: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "No, and `status` says why"}}


# Called by the routes themselves: each dependency takes FastAPI a twentieth of a request.
def _engine(request: Request) -> Engine:
    engine = request.app.state.engine
    assert isinstance(engine, Engine)
    return engine


def _settings(request: Request) -> Settings:
    settings = request.app.state.settings
    assert isinstance(settings, Settings)
    return settings


OptionsInQuery = Annotated[QueryOptions, Query()]
Timeout = Annotated[
    float | None,
    Header(
        alias="X-Request-Timeout",
        gt=0,
        allow_inf_nan=False,
        json_schema_extra=without_null,
        description="Seconds in which the answer is of use; the service gives up after them, or after its own limit.",
    ),
]

recognition = APIRouter(tags=["recognition"], dependencies=[Depends(identify_and_charge)])
service = APIRouter(tags=["service"])


@recognition.post(
    "/recognize",
    summary="Read the text of one image",
    response_model=RecognizeResponse,
    response_model_exclude_none=True,
    responses=_PROBLEMS
    | _NOT_ACCEPTABLE
    | {200: {"description": "The text, in the form that the Accept header asks for.", "content": OTHER_FORMATS}},
    openapi_extra={"requestBody": RECOGNIZE_BODY},
)
async def recognize(
    request: Request,
    response: Response,
    query: OptionsInQuery,
    timeout: Timeout = None,
) -> RecognizeResponse | Response:
    """Send one image: as the multipart field `file`, as the bare bytes, or in JSON.

    It is taken for one line of text; with `mode=page` or `mode=auto` the lines in it are looked for first.

    The options may stand in the query, in form fields or beside the image in the JSON.

    The header `Accept` chooses the form of the answer: JSON, plain text, hOCR, ALTO or a searchable PDF, whose pages
    are the pictures with the text over them, to be found and copied but not seen.
    """
    started = time.monotonic()
    engine, settings = _engine(request), _settings(request)
    deadline = started + min(timeout or settings.request_timeout, settings.max_request_timeout)
    form, media_type = formats.negotiated(",".join(request.headers.getlist("accept")))
    if form is Format.PDF:
        searchable_pdf.check()
    engine.check(deadline)  # who has to be refused is refused before megabytes are taken in
    upload = await parse_single(request, engine.offload)
    options = merge(query, upload.options)
    decoding = await engine.decoding(options)
    request.state.images = 1
    with engine.admit(len(options.turns), upload.size, deadline) as ticket:
        work = recognize_image(engine, ticket, upload.items[0].read_bytes, options, decoding)
        result = await cancel_on_disconnect(request, work)
        if form is not Format.JSON:
            writing = _written(engine, form, result, options, upload.items[0].read_bytes, deadline)
            content = await cancel_on_disconnect(request, writing)
    total = time.monotonic() - started
    timing = responses.timing(result, total).model_dump()
    spent_where = {"Server-Timing": ", ".join(f"{stage};dur={spent}" for stage, spent in timing.items())}
    if form is not Format.JSON:
        return Response(content, media_type=media_type, headers=spent_where)
    response.headers.update(spent_where)
    return responses.single(request_id_of(request.scope), engine.reader, result, options, total)


async def _written(
    engine: Engine, form: Format, result: Outcome, options: Options, read_bytes: Callable[[], bytes], deadline: float
) -> bytes:
    """What was read in another form than JSON; the pages of a PDF are drawn one by one, so that others get their turn.

    Raises ``DeadlineExceeded``, and ``ImageError`` for a page that cannot be drawn again.
    """
    with in_time():
        async with asyncio.timeout(deadline - time.monotonic()):
            steps = formats.writing(form, result, options, read_bytes, engine.image_limits)
            content: bytes | None = None
            while content is None:
                content = await engine.offload(partial(next, steps))
            return content


@recognition.post(
    "/recognize/batch",
    summary="Read the text of several images",
    response_model=BatchResponse,
    response_model_exclude_none=True,
    responses=_PROBLEMS
    | {200: {"content": {NDJSON: {}}, "description": "One outcome per image; errors of single images are in here."}},
    openapi_extra={"requestBody": BATCH_BODY},
)
async def recognize_batch(
    request: Request,
    query: OptionsInQuery,
    timeout: Timeout = None,
) -> BatchResponse | Response:
    """Send several images as multipart fields `files` or in JSON; all are admitted, or none.

    With `Accept: application/x-ndjson` each outcome is sent as soon as it is there, in any order, and a line with the
    summary ends the stream. Otherwise one document holds them in the order of the request.
    """
    started = time.monotonic()
    engine, settings = _engine(request), _settings(request)
    deadline = started + min(timeout or settings.batch_timeout, settings.max_request_timeout)
    engine.check(deadline)
    upload = await parse_batch(request, engine.offload, settings.max_batch_files, settings.max_batch_pixels)
    options = merge(query, upload.options)
    decoding = await engine.decoding(options)
    request.state.images = len(upload.items)
    charge(request, len(upload.items) - 1)
    ticket = engine.admit(len(upload.items) * len(options.turns), upload.size, deadline)
    run = BatchRequest(engine, ticket, upload.items, options, decoding, request.scope, started)
    if NDJSON in request.headers.get("accept", ""):
        return run.stream(NDJSON)
    with ticket:
        return await cancel_on_disconnect(request, run.collect())


@service.get(
    "/v1/models",
    summary="Which models are served",
    response_model=ModelList,
    responses={401: _PROBLEMS[401], 503: _PROBLEMS[503]},
    dependencies=[Depends(identify)],
)
async def models(request: Request) -> ModelList:
    """The model's name, the hash of its weights and the device it runs on."""
    reader = _engine(request).reader
    return ModelList(models=[ModelCard(id=reader.model_id, revision=reader.revision, device=str(reader.device))])


@service.get("/healthz/live", summary="Is the process of any use", response_model=Health, responses=_UNHEALTHY)
@service.get("/v2/health/live", include_in_schema=False)
async def live(request: Request) -> Response:
    """200 while a restart would not help; 503 once the model has failed or is stuck."""
    engine = _engine(request)
    stuck = not engine.alive and engine.state is not State.FAILED
    return _health(engine.alive, "live", "stuck" if stuck else engine.state.value)


@service.get("/healthz/ready", summary="Does it take requests", response_model=Health, responses=_UNHEALTHY)
@service.get("/v2/health/ready", include_in_schema=False)
async def ready(request: Request) -> Response:
    """200 once the model is loaded and warm; 503 before, after a failure, when nearly full and while shutting down."""
    engine = _engine(request)
    return _health(engine.ready, "ready", engine.state.value)


@service.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {CONTENT_TYPE.partition(";")[0]: {}}}, 401: _PROBLEMS[401]},
    dependencies=[Depends(identify)],
)
async def metrics(request: Request) -> Response:
    """Queue, batches, failures and requests in Prometheus' text format."""
    collected: Metrics = request.app.state.metrics
    return Response(collected.exposition(), media_type=CONTENT_TYPE)


def _health(good: bool, word: str, state: str) -> Response:
    return JSONResponse({"status": word if good else state}, 200 if good else 503)

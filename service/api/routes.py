"""The routes; each takes a request apart, asks the engine and puts an answer together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import JSONResponse, Response

from linewise.service.api import openapi, responses
from linewise.service.api.batch import BatchRequest
from linewise.service.api.cancellation import cancel_on_disconnect
from linewise.service.api.options import Detail, Options, QueryOptions, merge, without_null
from linewise.service.api.schemas import BatchResponse, Health, ModelCard, ModelList, RecognizeResponse
from linewise.service.api.uploads import ParsedRequest, parse_batch, parse_single
from linewise.service.documents.workers.process import WALL_LIMIT_S, Stop
from linewise.service.errors import request_id_of
from linewise.service.formats import formats, searchable_pdf
from linewise.service.formats.formats import Format
from linewise.service.inference.batcher import Ticket
from linewise.service.inference.engine import Engine, State, within
from linewise.service.inference.pipeline import RecognitionOptions, RecognitionResult
from linewise.service.inference.pipeline import recognize as recognize_image
from linewise.service.metrics import CONTENT_TYPE, Metrics
from linewise.service.middleware.auth import charge, charge_pages, identify, identify_and_charge, identify_and_check
from linewise.service.settings import Settings

if TYPE_CHECKING:
    from linewise.model import Reading


# Called by the routes themselves: each dependency takes FastAPI a twentieth of a request.
def engine_of(request: Request) -> Engine:
    """Return the engine of the application."""
    engine = request.app.state.engine
    assert isinstance(engine, Engine)
    return engine


def settings_of(request: Request) -> Settings:
    """Return the settings of the application."""
    settings = request.app.state.settings
    assert isinstance(settings, Settings)
    return settings


def deadline_of(request: Request, timeout: float) -> float:
    """Return the deadline on ``time.monotonic``: the upload has a timeout of its own and does not count."""
    received: float = getattr(request.state, "body_received", time.monotonic())
    return received + timeout


OptionsInQuery = Annotated[QueryOptions, Query()]
Timeout = Annotated[
    float | None,
    Header(
        alias="X-Request-Timeout",
        gt=0,
        allow_inf_nan=False,
        json_schema_extra=without_null,
        description="Timeout for this request, in seconds from the arrival of its body; capped by the service's own"
        " limit.",
    ),
]

recognition = APIRouter(tags=["recognition"])
service = APIRouter(tags=["service"])


@recognition.post(
    "/recognize",
    response_model=RecognizeResponse,
    response_model_exclude_none=True,
    dependencies=[Depends(identify_and_charge)],
    **openapi.RECOGNIZE,
)
async def recognize(
    request: Request,
    response: Response,
    query: OptionsInQuery,
    timeout: Timeout = None,
) -> RecognizeResponse | Response:
    """Read the text of one image."""
    started = time.monotonic()
    engine, settings = engine_of(request), settings_of(request)
    is_default = timeout is None
    timeout = min(timeout or settings.request_timeout, settings.max_request_timeout)
    output_format, media_type = responses.negotiate(",".join(request.headers.getlist("accept")))
    if output_format is Format.PDF:
        searchable_pdf.check_installed()
    engine.check(started + timeout, request.state.client)  # rejects before megabytes are received
    upload = await parse_single(request, engine.offload)
    deadline = deadline_of(request, timeout)
    options = merge(query, upload.options)
    recognition_options = await recognition_options_of(engine, options, output_format)
    if is_default:
        recognition_options = with_page_timeout(recognition_options, request, settings)
    read_bytes = upload.items[0].read_bytes
    async with recognized(request, upload, options, recognition_options, deadline) as (ticket, result):
        if output_format is not Format.JSON:
            rendering = _render(engine, output_format, result, read_bytes, ticket.deadline)
            content = await cancel_on_disconnect(request, rendering)
    total = time.monotonic() - started
    timing = responses.timing(result, total).model_dump()
    headers = {"Server-Timing": ", ".join(f"{stage};dur={duration}" for stage, duration in timing.items())}
    if output_format is not Format.JSON:
        return Response(content, media_type=media_type, headers=headers)
    response.headers.update(headers)
    return responses.single(request_id_of(request.scope), engine.reader, result, options, total)


@asynccontextmanager
async def recognized(
    request: Request, upload: ParsedRequest, options: Options, recognition_options: RecognitionOptions, deadline: float
) -> AsyncIterator[tuple[Ticket[Reading], RecognitionResult]]:
    """Admit and read the one image of a request; it stays admitted until the block ends.

    Raises what ``Engine.admit`` and ``pipeline.recognize`` raise, and ``ClientDisconnect``.
    """
    engine = engine_of(request)
    request.state.images = 1
    with _admit(engine, request, upload, options, recognition_options, deadline) as ticket:
        work = recognize_image(engine, ticket, upload.items[0].read_bytes, recognition_options)
        result = await cancel_on_disconnect(request, work)
        charge_pages(request.scope, len(result.document.pages))
        yield ticket, result


async def recognition_options_of(engine: Engine, options: Options, output_format: Format) -> RecognitionOptions:
    """Translate the request's options for the pipeline. Raises ``InvalidOption``, ``NotReady``."""
    decoding = None
    if options.decoded_otherwise:
        decoding = await engine.decoding(
            options.alternatives, options.charset, options.charset_exclude, options.lexicon
        )
    return RecognitionOptions(
        mode=options.mode,
        turns=options.turns,
        finds_orientation=options.finds_orientation,
        decoding=decoding,
        min_confidence=options.min_confidence,
        with_words=output_format is not Format.JSON or options.detail is not Detail.TEXT,
        with_characters=output_format is Format.JSON and options.detail is Detail.CHARS,
    )


def with_page_timeout(options: RecognitionOptions, request: Request, settings: Settings) -> RecognitionOptions:
    """Let a document take longer for each page, because its client has set no timeout."""
    latest = deadline_of(request, settings.max_request_timeout)
    return replace(options, page_timeout=settings.request_timeout, latest_deadline=latest)


def _admit(
    engine: Engine,
    request: Request,
    upload: ParsedRequest,
    options: Options,
    recognition_options: RecognitionOptions,
    deadline: float,
) -> Ticket[Reading]:
    """Admit all images of a request. Raises ``QueueFull``, ``NotReady``, ``Draining``."""
    return engine.admit(
        len(upload.items) * len(options.turns),
        upload.size,
        deadline,
        client=request.state.client,
        weight=recognition_options.weight,
        kind=options.mode,
    )


async def _render(
    engine: Engine, output_format: Format, result: RecognitionResult, read_bytes: Callable[[], bytes], deadline: float
) -> bytes:
    """Write a result in any format but JSON; other requests get their turn between the pages of a PDF.

    Raises ``DeadlineExceeded``, and ``ImageError`` for a page that cannot be decoded again.
    """
    async with within(deadline):
        with Stop() as stop:
            steps = formats.render(output_format, result.document, read_bytes, engine.image_limits, stop)
            content: bytes | None = None
            while content is None:
                content = await engine.offload_slow(partial(next, steps), WALL_LIMIT_S)
        return content


@recognition.post(
    "/recognize/batch",
    response_model=BatchResponse,
    response_model_exclude_none=True,
    dependencies=[Depends(identify_and_check)],
    **openapi.RECOGNIZE_BATCH,
)
async def recognize_batch(
    request: Request,
    query: OptionsInQuery,
    timeout: Timeout = None,
) -> BatchResponse | Response:
    """Read the text of several images."""
    started = time.monotonic()
    engine, settings = engine_of(request), settings_of(request)
    is_default = timeout is None
    timeout = min(timeout or settings.batch_timeout, settings.max_request_timeout)
    engine.check(started + timeout, request.state.client)
    upload = await parse_batch(
        request, engine.offload, settings.max_batch_files, settings.max_batch_pixels, engine.image_limits
    )
    deadline = deadline_of(request, timeout)
    options = merge(query, upload.options)
    recognition_options = await recognition_options_of(engine, options, Format.JSON)
    if is_default:
        recognition_options = with_page_timeout(recognition_options, request, settings)
    request.state.images = len(upload.items)
    charge(request, len(upload.items))
    ticket = _admit(engine, request, upload, options, recognition_options, deadline)
    run = BatchRequest(engine, ticket, upload.items, options, recognition_options, request.scope, started)
    if openapi.NDJSON in request.headers.get("accept", ""):
        return run.stream(openapi.NDJSON)
    with ticket:
        return await cancel_on_disconnect(request, run.collect())


@service.get("/v1/models", response_model=ModelList, dependencies=[Depends(identify)], **openapi.MODELS)
async def models(request: Request) -> ModelList:
    """List the models that this process serves."""
    reader = engine_of(request).reader
    return ModelList(models=[ModelCard(id=reader.model_id, revision=reader.revision, device=str(reader.device))])


# The routes with HEAD are registered first (decorators apply upwards), so that `Allow` lists both methods.
@service.get("/healthz/live", response_model=Health, **openapi.LIVE)
@service.api_route("/healthz/live", methods=["GET", "HEAD"], include_in_schema=False)
@service.api_route("/v2/health/live", methods=["GET", "HEAD"], include_in_schema=False)
async def live(request: Request) -> Response:
    """Answer the liveness probe."""
    engine = engine_of(request)
    stuck = not engine.alive and engine.state is not State.FAILED
    return _health(engine.alive, "live", "stuck" if stuck else engine.state.value)


@service.get("/healthz/ready", response_model=Health, **openapi.READY)
@service.api_route("/healthz/ready", methods=["GET", "HEAD"], include_in_schema=False)
@service.api_route("/v2/health/ready", methods=["GET", "HEAD"], include_in_schema=False)
async def ready(request: Request) -> Response:
    """Answer the readiness probe."""
    engine = engine_of(request)
    return _health(engine.ready, "ready", engine.state.value)


@service.get("/metrics", response_class=Response, dependencies=[Depends(identify)], **openapi.METRICS)
async def metrics(request: Request) -> Response:
    """Expose the metrics in the Prometheus text format."""
    collected: Metrics = request.app.state.metrics
    return Response(collected.exposition(), media_type=CONTENT_TYPE)


def _health(good: bool, word: str, state: str) -> Response:
    return JSONResponse({"status": word if good else state}, 200 if good else 503)

"""The application: settings in, ASGI app out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import limits
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from linewise.service.api import openapi, routes
from linewise.service.errors import ServerErrorMiddleware, install_handlers
from linewise.service.inference.cpu import share_cores
from linewise.service.inference.engine import Engine, LineReader, PageFinder
from linewise.service.metrics import Metrics
from linewise.service.middleware.auth import KeyRing, RateLimiter
from linewise.service.middleware.guards import BodyLimitMiddleware, LoadSheddingMiddleware
from linewise.service.middleware.request_context import RequestContextMiddleware
from linewise.service.settings import Settings
from linewise.service.web.page import page


def create_app(
    settings: Settings | None = None, reader: LineReader | None = None, pages: PageFinder | None = None
) -> FastAPI:
    """The service as an ASGI application.

    Without ``settings`` they come from the environment; without ``reader`` the model is loaded, once, when the server
    starts, with what finds the lines of pages. A given ``reader`` reads pages if ``pages`` is given, too. Either way
    the service answers at once, and is ready when the model is warm.
    """
    chosen = settings or Settings()

    def open_reader() -> LineReader:
        if reader is not None:
            return reader
        share_cores(chosen.batch_limits.threads)
        return load_reader(chosen)

    metrics = Metrics()

    def open_pages(opened: LineReader) -> PageFinder | None:
        return pages if reader is not None else open_page_finder(opened)

    engine = Engine(open_reader, chosen.image_limits, chosen.batch_limits, observer=metrics, open_pages=open_pages)
    metrics.watch(engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        starting = asyncio.create_task(engine.start())
        try:
            yield
        finally:
            await starting
            await engine.stop(chosen.drain_timeout)

    app = FastAPIOffline(  # a FastAPI whose /docs fetches nothing from other hosts
        title="Linewise",
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        lifespan=lifespan,
        redoc_url=None,
        # FastAPI's own telemetry; its logs would repeat ours, with messages of foreign exceptions in them
        telemetry={"auto_configure": chosen.telemetry, "logs": False},
    )
    app.state.engine = engine
    app.state.settings = chosen
    app.state.metrics = metrics
    app.state.keys = KeyRing((key.get_secret_value() for key in chosen.api_keys), chosen.api_keys_file)
    app.state.rate = RateLimiter(limits.parse(chosen.rate_limit) if chosen.rate_limit else None)
    install_handlers(app)
    _add_middleware(app, chosen, metrics)
    app.include_router(routes.recognition)
    app.include_router(routes.recognition, prefix="/v1", include_in_schema=False)
    app.include_router(routes.service)
    app.include_router(page)
    return app


def _add_middleware(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """Wrap the application; what is added last is outermost."""
    one, several = settings.request_timeout, settings.batch_timeout
    app.add_middleware(
        LoadSheddingMiddleware,
        check=app.state.engine.check,
        timeouts={"/recognize": one, "/v1/recognize": one, "/recognize/batch": several, "/v1/recognize/batch": several},
        max_timeout=settings.max_request_timeout,
    )
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=settings.max_body_bytes,
        max_total=settings.max_in_flight_bytes,
        timeout=settings.upload_timeout,
        exceptions=dict.fromkeys(("/recognize/batch", "/v1/recognize/batch"), settings.max_batch_body_bytes),
    )
    app.add_middleware(ServerErrorMiddleware)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID", "X-Request-Timeout"],
            expose_headers=["X-Request-ID", "Server-Timing", "Retry-After"],
        )
    app.add_middleware(RequestContextMiddleware, metrics=metrics)


def open_page_finder(reader: LineReader) -> PageFinder | None:
    """What finds the lines of pages for the recogniser of this package; others read single lines.

    Raises ``model.CheckpointError``.
    """
    from linewise import model

    return model.load_page_reader(reader=reader) if isinstance(reader, model.Reader) else None


def load_reader(settings: Settings) -> LineReader:
    """Load the recogniser that the settings name.

    Raises ``model.CheckpointError``, and ``ValueError`` for a precision that weights or processor cannot do.
    """
    from linewise import model

    return model.load(settings.weights, settings.device, settings.precision)

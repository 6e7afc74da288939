"""The ASGI application: wiring and lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import limits
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from linewise.service.api import openapi, routes
from linewise.service.api.kserve import routes as kserve
from linewise.service.cpu import share_cores
from linewise.service.errors import install_handlers
from linewise.service.inference.engine import Engine
from linewise.service.inference.loading import LineReader, PageFinder, load_page_finder, load_reader
from linewise.service.metrics import Metrics
from linewise.service.middleware.auth import KeyRing, RateLimiter, WrongKeyLimiter
from linewise.service.middleware.body_limits import BodyLimitMiddleware
from linewise.service.middleware.load_shedding import LoadSheddingMiddleware
from linewise.service.middleware.request_context import RequestContextMiddleware
from linewise.service.middleware.server_errors import ServerErrorMiddleware
from linewise.service.settings import Settings
from linewise.service.web.page import page
from linewise.service.web.preview import preview

_RECOGNIZE_PATHS = ("/recognize", "/v1/recognize", *kserve.INFER_PATHS)
_BATCH_PATHS = ("/recognize/batch", "/v1/recognize/batch")


def create_app(
    settings: Settings | None = None, reader: LineReader | None = None, pages: PageFinder | None = None
) -> FastAPI:
    """Build the ASGI application.

    ``settings`` default to those of the environment. Without ``reader``, the recogniser and the page detector are
    loaded when the server starts; with one, pages are read only if ``pages`` is given. The server accepts connections
    at once, and is ready when the model is warm.
    """
    settings = settings or Settings()
    metrics = Metrics()
    engine = _create_engine(settings, metrics, reader, pages)
    metrics.watch(engine)
    app = FastAPIOffline(  # serves the assets of /docs itself
        title="Linewise",
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        lifespan=_engine_lifespan(engine, settings.drain_timeout),
        redoc_url=None,
        # FastAPI's own logs would repeat ours and include messages of other exceptions
        telemetry={"auto_configure": settings.telemetry, "logs": False},
    )
    app.state.engine = engine
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.keys = KeyRing((key.get_secret_value() for key in settings.api_keys), settings.api_keys_file)
    app.state.wrong_keys = WrongKeyLimiter()
    app.state.rate = RateLimiter(limits.parse(settings.rate_limit) if settings.rate_limit else None)
    install_handlers(app)
    _add_middleware(app, settings, metrics)
    app.include_router(routes.recognition)
    app.include_router(routes.recognition, prefix="/v1", include_in_schema=False)
    app.include_router(kserve.router)
    app.include_router(routes.service)
    app.include_router(page)
    app.include_router(preview)
    return app


def _create_engine(settings: Settings, metrics: Metrics, reader: LineReader | None, pages: PageFinder | None) -> Engine:
    def open_reader() -> LineReader:
        if reader is not None:
            return reader
        share_cores(settings.batch_limits.threads)
        return load_reader(settings.model_spec)

    def open_pages(opened: LineReader) -> PageFinder | None:
        return pages if reader is not None else load_page_finder(opened)

    return Engine(open_reader, settings.image_limits, settings.batch_limits, hooks=metrics, open_pages=open_pages)


def _engine_lifespan(engine: Engine, drain_timeout: float) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        starting = asyncio.create_task(engine.start())
        try:
            yield
        finally:
            await starting
            await engine.stop(drain_timeout)

    return lifespan


def _add_middleware(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """Add the middleware; the last one added is the outermost."""
    app.add_middleware(
        LoadSheddingMiddleware,
        check=app.state.engine.check,
        keys=app.state.keys,
        timeouts=dict.fromkeys(_RECOGNIZE_PATHS, settings.request_timeout)
        | dict.fromkeys(_BATCH_PATHS, settings.batch_timeout),
        max_timeout=settings.max_request_timeout,
    )
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=settings.max_body_bytes,
        max_total_bytes=settings.max_in_flight_bytes,
        timeout=settings.upload_timeout,
        path_limits=dict.fromkeys(_BATCH_PATHS, settings.max_batch_body_bytes),
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

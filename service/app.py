"""The application: settings in, ASGI app out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service import routes
from service.engine import Engine, LineReader
from service.errors import LastResort, install_handlers
from service.guards import BodyGuard
from service.observe import RequestContext
from service.settings import Settings

DESCRIPTION = "Send the picture of a line of text, get the text with a confidence."


def create_app(settings: Settings | None = None, reader: LineReader | None = None) -> FastAPI:
    """The service as an ASGI application.

    Without ``settings`` they come from the environment; without ``reader`` the model is loaded, once, when the server
    starts. Either way it answers at once, and is ready when the model is warm.
    """
    chosen = settings or Settings()

    def open_reader() -> LineReader:
        return reader or load_reader(chosen)

    engine = Engine(open_reader, chosen.image_limits, chosen.batch_limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        starting = asyncio.create_task(engine.start())
        try:
            yield
        finally:
            await starting
            await engine.stop(chosen.drain_timeout)

    app = FastAPI(
        title="Linewise",
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.engine = engine
    app.state.settings = chosen
    install_handlers(app)
    app.add_middleware(
        BodyGuard,
        max_bytes=chosen.max_body_bytes,
        timeout=chosen.upload_timeout,
        exceptions=dict.fromkeys(("/recognize/batch", "/v1/recognize/batch"), chosen.max_batch_body_bytes),
    )
    app.add_middleware(LastResort)
    app.add_middleware(RequestContext)  # added last, so outermost: every answer has an id
    app.include_router(routes.recognition)
    app.include_router(routes.recognition, prefix="/v1", include_in_schema=False)
    app.include_router(routes.service)
    return app


def load_reader(settings: Settings) -> LineReader:
    """Load the recogniser that the settings name. Raises ``model.CheckpointError``."""
    import model

    return model.load(settings.weights, settings.device)

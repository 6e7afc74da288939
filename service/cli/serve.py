"""The commands that serve other programs: ``serve``, ``mcp`` and ``tesseract``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from linewise.service.cli.common import (
    DeviceOption,
    EngineOption,
    WeightsOption,
    deferred_interrupt,
    fail,
    replicas_from_environment,
    require_packages,
    require_ray,
    settings_from,
)

if TYPE_CHECKING:
    from linewise.service.inference.worker import ModelProcess
    from linewise.service.settings import Settings


class ServeCommand(TyperCommand):
    """Command whose help ends with the settings, which are imported only for the help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help with every setting, its default and its description."""
        from linewise.service.settings import describe

        lines = [f"{name}{f' ({default})' if default else ''}: {text}" for name, default, text in describe()]
        self.epilog = "Environment:\n\n" + "\n\n".join(lines)
        super().format_help(ctx, formatter)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. (127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. (8000)")] = None,
    allow_anonymous: Annotated[
        bool | None,
        typer.Option("--allow-anonymous", help="Allow requests without an API key on a public address."),
    ] = None,
    engine: EngineOption = "embedded",
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Start the HTTP service.

    Settings are LINEWISE_* environment variables; options override them.
    """
    settings = settings_from(host=host, port=port, allow_anonymous=allow_anonymous, device=device, weights=weights)
    if engine == "ray":
        _serve_on_ray(settings)
    else:
        _serve_embedded(settings)


def _serve_embedded(settings: Settings) -> None:
    from linewise.service.cpu import granted_cores, share_cores
    from linewise.service.inference.worker import ModelProcess

    threads = settings.batch_limits.threads
    share_cores(threads)
    with ModelProcess(settings.model_spec, threads + granted_cores()) as model:
        with deferred_interrupt():
            # The model process loads the weights while this process imports the web framework.
            from linewise.service.app import create_app
            from linewise.service.server import run

            _wait_until_loaded(model)
            app = create_app(settings, model, model.pages)
        model.on_lost(app.state.engine.handle_model_loss)
        code = run(app, settings)
    if code:
        raise typer.Exit(code)


def _wait_until_loaded(model: ModelProcess) -> None:
    from linewise.service.inference.worker import CannotStart

    try:
        model.load()
    except CannotStart as error:
        fail(str(error), 1)


def _serve_on_ray(settings: Settings) -> None:
    require_ray()
    from linewise.service.ray_serving import run

    if settings.port == 0:
        fail("--engine ray needs a fixed --port, not 0: every machine of the cluster listens on it", 2)
    replicas = replicas_from_environment()
    try:
        run(settings, replicas)
    except (RuntimeError, ConnectionError) as error:  # Ray has printed its own message and traceback
        fail(str(error).splitlines()[0], 1)


def mcp(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders whose files may be read.")],
) -> None:
    """Serve the tools read_image and read_pdf to an MCP host over standard input and output.

    LINEWISE_URL makes them use a running service.
    """
    require_packages(["mcp"], "mcp", "the command")
    from linewise.service.integrations import open_document_reader
    from linewise.service.integrations.mcp_server import build_server
    from linewise.service.integrations.reading import ReadingError

    try:
        server = build_server(folders, open_document_reader())
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", 2)
    except ReadingError as error:
        fail(str(error), 2)
    server.run()


def tesseract(context: typer.Context) -> None:
    """Take the arguments of the tesseract command and answer like it.

    LINEWISE_URL makes it use a running service.
    """
    from linewise.service.integrations.tesseract import main

    raise typer.Exit(main(context.args))

"""What every command shares: options, settings, the recogniser, and one line on standard error for what is wrong."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from linewise.service.inference.engine import LineReader, PageFinder
    from linewise.service.inference.worker import ModelProcess
    from linewise.service.settings import Settings

DeviceOption = Annotated[
    str | None, typer.Option(help="Torch device, such as cpu or cuda:0; the GPU if there is one when left out.")
]
EngineOption = Annotated[
    Literal["embedded", "ray"], typer.Option(help="In this process, or on Ray: on any number of machines.")
]
WeightsOption = Annotated[Path | None, typer.Option(help="Checkpoint to use instead of the one in the package.")]


def settings_from(**given: object) -> Settings:
    """The settings from options and environment; wrong ones end the program with one line."""
    from pydantic import ValidationError

    from linewise.service.settings import Settings, explain

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        fail(explain(error), 2)


def open_reader(settings: Settings) -> LineReader:
    """The recogniser; a checkpoint or a precision that cannot be used ends the program with one line."""
    from linewise.model import CheckpointError
    from linewise.service.app import load_reader

    try:
        return load_reader(settings)
    except (CheckpointError, ValueError) as error:
        fail(str(error), 1)


def load_model(process: ModelProcess) -> None:
    """Wait for a model in a process of its own; one that cannot be used ends the program with one line."""
    from linewise.service.inference.worker import CannotStart

    try:
        process.load()
    except CannotStart as error:
        fail(str(error), 1)


def need_ray(use: str) -> None:
    """Ends the program with one line on how to install the extra, unless Ray is there."""
    if find_spec("ray") is None:
        fail(f"not installed: ray; {use} needs pip install 'linewise[ray]'", 1)


def open_pages(reader: LineReader) -> PageFinder | None:
    """What finds the lines of pages; a checkpoint that cannot be used ends the program with one line."""
    from linewise.model import CheckpointError
    from linewise.service.app import open_page_finder

    try:
        return open_page_finder(reader)
    except CheckpointError as error:
        fail(str(error), 1)


def print_error(message: str) -> None:
    typer.echo(f"linewise: {message}", err=True)


def fail(message: str, code: int) -> NoReturn:
    print_error(message)
    raise typer.Exit(code)

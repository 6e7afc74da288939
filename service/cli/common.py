"""Options, settings, model loading, errors and the progress bar that the commands share."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from linewise.service.bulk.sources import displayed

if TYPE_CHECKING:
    from linewise.service.inference.loading import LineReader, PageFinder
    from linewise.service.settings import Replicas, Settings

EngineName = Literal["embedded", "ray"]

DeviceOption = Annotated[
    str | None, typer.Option(help="Torch device, such as cpu or cuda:0. Default: the GPU if there is one, else cpu.")
]
EngineOption = Annotated[
    EngineName, typer.Option(help="Run the model in this process (embedded) or on a Ray cluster (ray).")
]
WeightsOption = Annotated[Path | None, typer.Option(help="Checkpoint to use instead of the packaged one.")]

MIN_PROGRESS_BAR_ITEMS = 2


def print_error(message: str) -> None:
    """Print one line to standard error, after the name of the program."""
    typer.echo(f"linewise: {displayed(message)}", err=True)


def fail(message: str, code: int) -> NoReturn:
    """Print one line to standard error and exit with ``code``."""
    print_error(message)
    raise typer.Exit(code)


def settings_from(**options: object) -> Settings:
    """Build the settings from the environment and from options that are not None; exit with 2 if invalid."""
    from pydantic import ValidationError

    from linewise.service.settings import Settings, explain

    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        fail(explain(error), 2)


def replicas_from_environment() -> Replicas:
    """Build the settings of Ray replicas from the environment; exit with 2 if invalid."""
    from pydantic import ValidationError

    from linewise.service.settings import Replicas, explain

    try:
        return Replicas()
    except ValidationError as error:
        fail(explain(error, "LINEWISE_RAY_"), 2)


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Hold a first SIGINT back until the end; main thread only, elsewhere without effect.

    An import of a compiled module may lose KeyboardInterrupt or report it as ImportError. A second SIGINT is not held.
    """
    received = False

    def hold(number: int, frame: object) -> None:
        nonlocal received
        if received:
            raise KeyboardInterrupt
        received = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if received:
            raise KeyboardInterrupt


def open_reader(settings: Settings) -> LineReader:
    """Load the recogniser; exit with 1 if the checkpoint or the precision cannot be used."""
    from linewise.model import CheckpointError
    from linewise.service.inference.loading import load_reader

    try:
        with deferred_interrupt():
            return load_reader(settings.model_spec)
    except (CheckpointError, ValueError) as error:
        fail(str(error), 1)


def open_page_finder(reader: LineReader) -> PageFinder | None:
    """Load the line detector for a recogniser; exit with 1 if the checkpoint cannot be used."""
    from linewise.model import CheckpointError
    from linewise.service.inference.loading import load_page_finder

    try:
        return load_page_finder(reader)
    except CheckpointError as error:
        fail(str(error), 1)


def require_packages(packages: Sequence[str], extra: str, purpose: str) -> None:
    """Exit with 1 and name the extra to install unless all packages are installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        fail(f"not installed: {', '.join(missing)}; {purpose} needs pip install 'linewise[{extra}]'", 1)


def require_ray() -> None:
    """Exit with 1 unless Ray is installed."""
    require_packages(["ray"], "ray", "--engine ray")


def require_training_extra() -> None:
    """Exit with 1 unless the packages of the extra ``train`` are installed."""
    require_packages(["torch", "fontTools", "matplotlib", "wordfreq"], "train", "the command")


def require_torch() -> None:
    """Exit with 1 unless the extra ``torch`` is installed."""
    require_packages(["torch"], "torch", "the command")


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error if it is a terminal and ``total`` is large; yields the function that advances it."""
    if total < MIN_PROGRESS_BAR_ITEMS or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # The bar intercepts standard output only if both streams are the same terminal: lines then appear above the bar.
    same_terminal = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=same_terminal, transient=True) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda: bar.advance(task)

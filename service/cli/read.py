"""The command ``linewise read``: options, their checks, and the choice of an output."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from linewise.service.bulk.auto import AutoReader
from linewise.service.bulk.export import Detail, ExportError, Form, RecordOptions, targets
from linewise.service.bulk.sources import DOCUMENTS, SUFFIXES, image_files
from linewise.service.cli.common import (
    DeviceOption,
    EngineName,
    EngineOption,
    WeightsOption,
    fail,
    open_page_finder,
    open_reader,
    require_ray,
    settings_from,
)
from linewise.service.cli.output import (
    print_auto,
    print_lines,
    print_pages,
    write_documents,
    write_rows,
    write_rows_on_ray,
)

if TYPE_CHECKING:
    from linewise.model import PageReader
    from linewise.service.bulk.ray_data import DecodingArguments
    from linewise.service.inference.loading import LineReader
    from linewise.service.settings import Settings

Mode = Literal["auto", "line", "page"]

ImagesArgument = Annotated[
    list[str],
    typer.Argument(help="Files, folders or glob patterns; - is standard input. With --output also .parquet tables."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per image, one per line.")]
FormatOption = Annotated[
    Form | None,
    typer.Option(
        "--format",
        help="Output format; text is laid out as on the page, tsv lists words with boxes as Tesseract does, pdf is a"
        " searchable PDF: the images with an invisible text layer.",
    ),
]
DetailOption = Annotated[
    Detail, typer.Option(help="With JSON: add each word with its confidence and polygon, or each character as well.")
]
AlternativesOption = Annotated[int, typer.Option(min=0, help="Number of alternative texts per image, with --json.")]
CharsetOption = Annotated[str | None, typer.Option(help="The only characters that the text may contain.")]
ExcludeOption = Annotated[str, typer.Option(help="Characters that the text may not contain.")]
LexiconOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="UTF-8 file with the allowed words or texts, one per line."),
]
ExplainOption = Annotated[
    Path | None,
    typer.Option(help="PNG to draw for one image: its characters, their alternatives, and the alignment."),
]
AnnotateOption = Annotated[
    Path | None,
    typer.Option(
        help="Picture to draw for one image: its words in boxes coloured by confidence, and the text beside it."
        " Further pages of a document get a number: out.png, out-2.png."
    ),
]
ModeOption = Annotated[
    Mode | None,
    typer.Option(
        help="Read images as one line, as pages, or (auto, the default) as one line and, where that is not sure, as a"
        " page. Rows of --output and --explain take lines."
    ),
]
PageOption = Annotated[bool, typer.Option("--page", help="Short for --mode page.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        help="File to which a row per image is added, .jsonl or .parquet; an interrupted run resumes there."
        " With --format: the file to write, or a folder for one file per image."
    ),
]


def read(
    images: ImagesArgument,
    as_json: JsonOption = False,
    form: FormatOption = None,
    detail: DetailOption = "text",
    alternatives: AlternativesOption = 0,
    charset: CharsetOption = None,
    charset_exclude: ExcludeOption = "",
    lexicon: LexiconOption = None,
    explain: ExplainOption = None,
    annotate: AnnotateOption = None,
    mode: ModeOption = None,
    page: PageOption = False,
    output: OutputOption = None,
    engine: EngineOption = "embedded",
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Print the text of each image: the text alone for a single image, else path, tab and text.

    Each row of a page is printed on its own line, in reading order, with tabs between its cells. Small pictures that
    read surely as one line are taken for a line.
    """
    settings = settings_from(device=device, weights=weights)
    constraints = Constraints(alternatives, charset, charset_exclude, lexicon)
    if page and mode not in (None, "page"):
        fail(f"--page and --mode {mode} contradict each other: leave out one of them", 2)
    options = ReadOptions(
        as_json, form, detail, constraints, explain, annotate, "page" if page else mode, output, engine
    )
    check_options(options)
    run(make_plan(images, options), settings)


@dataclass(frozen=True)
class Constraints:
    """Options about decoding: number of alternatives, allowed and excluded characters, lexicon file."""

    alternatives: int
    charset: str | None
    charset_exclude: str
    lexicon: Path | None

    @property
    def given(self) -> bool:
        """Whether any of the options is set."""
        return bool(self.alternatives or self.charset_exclude) or self.charset is not None or self.lexicon is not None

    def decoding_arguments(self) -> DecodingArguments:
        """Arguments of ``LineReader.decoding``; raises ``ValueError`` for a lexicon that is not UTF-8."""
        words = None if self.lexicon is None else self.lexicon.read_text("utf-8-sig").splitlines()
        return self.alternatives, self.charset, self.charset_exclude, words


@dataclass(frozen=True)
class ReadOptions:
    """Options of ``linewise read`` apart from the images, the device and the weights.

    ``requested_mode`` is None where the images decide, or the output that takes lines only.
    """

    as_json: bool
    form: Form | None
    detail: Detail
    constraints: Constraints
    explain: Path | None
    annotate: Path | None
    requested_mode: Mode | None
    output: Path | None
    engine: EngineName

    @property
    def mode(self) -> Mode:
        """How to read the images."""
        takes_lines = self.adds_rows or self.explain is not None
        return self.requested_mode or ("line" if takes_lines else "auto")

    @property
    def adds_rows(self) -> bool:
        """Whether rows are added to a file (``--output`` without ``--format``)."""
        return self.output is not None and self.form is None

    @property
    def prints_json(self) -> bool:
        """Whether texts on standard output are JSON objects."""
        return self.as_json or self.form == "json"

    @property
    def record(self) -> RecordOptions:
        """What JSON objects hold."""
        return RecordOptions(self.constraints.alternatives, self.detail)


@dataclass(frozen=True)
class ReadPlan:
    """Images to read and where their texts go.

    ``documents`` maps each source to its output file, None being standard output. It is None where the texts are
    printed as lines or added as rows instead.
    """

    sources: list[str]
    options: ReadOptions
    documents: dict[str, Path | None] | None


def check_options(options: ReadOptions) -> None:
    """Exit with 2 if options exclude each other, and with 1 if Ray is needed and not installed."""
    on_ray = options.engine == "ray"
    if options.form is not None and (options.as_json or options.explain or options.annotate or on_ray):
        fail("--format cannot be combined with --json, --explain, --annotate or --engine ray: leave out one of them", 2)
    if options.annotate is not None and options.adds_rows:
        fail("--output adds rows of a fixed form: leave out --annotate", 2)
    if options.detail != "text" and not options.prints_json:
        fail(f"--detail {options.detail} needs --json or --format json", 2)
    other_form = options.as_json or options.constraints.alternatives or options.explain or options.mode != "line"
    if options.adds_rows and other_form:
        fail(
            "--output adds rows of a fixed form, one for each line: leave out --json, --alternatives, --explain, --page"
            " and other modes than line",
            2,
        )
    if on_ray and not options.adds_rows:
        fail("--engine ray writes rows to a file: name it with --output", 2)
    if on_ray:
        require_ray()


def make_plan(images: list[str], options: ReadOptions) -> ReadPlan:
    """Resolve the images and their output files; exit with 1 or 2 if that is impossible."""
    sources = list(image_files(images, SUFFIXES if options.mode == "line" else DOCUMENTS))
    if not sources:
        fail(f"no images in {', '.join(images)}", 1)
    if options.explain is not None and options.mode != "line":
        fail("--explain takes an image of one line: leave out --page and other modes than line", 2)
    if options.explain is not None and len(sources) != 1:
        fail(f"--explain takes one image, not {len(sources)}", 2)
    if options.annotate is not None and len(sources) != 1:
        fail(f"--annotate takes one image, not {len(sources)}", 2)
    if options.mode == "page" and options.constraints.given:
        fail("--page decodes without constraints: leave out --alternatives, --charset, --charset-exclude, --lexicon", 2)
    return ReadPlan(sources, options, _documents(sources, options))


def _documents(sources: list[str], options: ReadOptions) -> dict[str, Path | None] | None:
    """Map each source to its output file; None if the texts are printed or added as rows."""
    from linewise.service.errors import NotAcceptable
    from linewise.service.formats.searchable_pdf import check_installed

    form = options.form
    is_printed = form == "json" or (form == "text" and len(set(sources)) > 1)
    if form is None or (options.output is None and is_printed):
        return None
    sources = list(dict.fromkeys(sources))
    try:
        paths = targets(sources, form, options.output)
        if form == "pdf":
            check_installed()
    except ExportError as error:
        fail(str(error), 2)
    except NotAcceptable as error:
        fail(error.detail, 1)
    if form == "pdf" and options.output is None and sys.stdout.isatty():
        fail("a PDF cannot be printed to a terminal: name a file with --output", 2)
    return dict(zip(sources, paths, strict=True))


def run(plan: ReadPlan, settings: Settings) -> None:
    """Load the model, read the images and write the texts; exit with 1 if an image could not be read."""
    if plan.options.adds_rows:
        from linewise.service.cpu import share_cores

        share_cores(settings.batch_limits.threads)  # before the model is loaded
    reader = open_reader(settings)
    failures = _read_pages(plan, reader, settings) if plan.options.mode == "page" else _read(plan, reader, settings)
    if failures:
        raise typer.Exit(1)


def _read_pages(plan: ReadPlan, reader: LineReader, settings: Settings) -> int:
    """Read the images as pages and return the number of failures."""
    options, limits = plan.options, settings.image_limits
    pages = _open_page_reader(reader)
    assert pages is not None
    record = options.record if options.prints_json else None
    if plan.documents is not None and options.form is not None:
        return write_documents(plan.documents, options.form, reader, pages, limits, record=options.record)
    return print_pages(pages, plan.sources, limits, record, options.annotate)


def _read(plan: ReadPlan, reader: LineReader, settings: Settings) -> int:
    """Read the images, as lines or by what they are, and return the number of failures; those in rows do not count."""
    options, limits = plan.options, settings.image_limits
    try:
        decoding_arguments = options.constraints.decoding_arguments()
        decoding = reader.decoding(*decoding_arguments)
    except ValueError as error:  # also raised by a lexicon that is not UTF-8
        fail(str(error), 2)
    pages = _open_page_reader(reader) if options.mode == "auto" else None
    auto = AutoReader(reader, pages, limits, decoding) if pages is not None else None
    if plan.documents is not None and options.form is not None:
        return write_documents(plan.documents, options.form, reader, auto, limits, decoding, options.record)
    record = options.record if options.prints_json else None
    if auto is not None:
        return print_auto(auto, plan.sources, limits, record, options.annotate)
    if options.output is None:
        return print_lines(reader, plan.sources, limits, decoding, record, options.explain, options.annotate)
    sources = list(dict.fromkeys(plan.sources))
    if options.engine == "ray":
        write_rows_on_ray(sources, options.output, settings, decoding_arguments)
    else:
        write_rows(sources, options.output, settings, reader, decoding)
    return 0


def _open_page_reader(reader: LineReader) -> PageReader | None:
    """Load the page reader for a recogniser of this package; None for any other recogniser."""
    from linewise.model import PageReader

    pages = open_page_finder(reader)
    assert pages is None or isinstance(pages, PageReader)
    return pages

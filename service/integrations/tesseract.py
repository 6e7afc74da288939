"""Command that takes the arguments of tesseract and answers like it, for programs that call it.

Its name may be a link to this program. Imports are few: callers start it once for each image.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import linewise
from linewise.service.documents.layout import Document
from linewise.service.integrations import open_document_reader
from linewise.service.integrations.reading import DocumentReader, ReadingError, ReadOptions, as_stored
from linewise.service.integrations.tesseract_options import (
    LANGUAGES,
    LINE_MODES,
    ORIENTATION_MODES,
    VARIABLES,
    WORD_MODES,
    Command,
    TesseractError,
    parse_arguments,
)
from linewise.service.integrations.tesseract_output import SUFFIXES, orientation_text, write

# The version whose behaviour callers may expect; OCRmyPDF, for one, wants at least 4.1.1.
EMULATED_VERSION = "5.5.0"

STANDARD_INPUT, STANDARD_OUTPUT = ("-", "stdin"), ("-", "stdout")

# Formats of Tesseract's callers that the recogniser does not take: GIF, PNM, JPEG 2000.
CONVERTED_SIGNATURES = (b"GIF8", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
CONVERTED_FORMATS = ("GIF", "PPM", "JPEG2000")

USAGE = """Usage:
  tesseract IMAGE OUTPUT [OPTION...] [FORMAT...]
  tesseract --version | --list-langs | --print-parameters | --help-psm | --help-oem

IMAGE is a file, or - for standard input. OUTPUT is a name to which a suffix is added, or - for standard output.
FORMAT is one or several of txt hocr alto tsv pdf makebox.

  -l LANG[+LANG]       languages; checked, without effect: all are read at once
  --psm N              page segmentation mode, see --help-psm
  --dpi N              resolution of the image, for the page size of a PDF
  --user-words FILE    with -c load_system_dawg=0, the only words allowed, one in a line
  -c NAME=VALUE        variable, see --print-parameters
  --oem N, --tessdata-dir DIR, --loglevel LEVEL
"""
MODES = """Page segmentation modes:
  0                    orientation only
  1 3 4 6 11 12        page: lines are detected (3 is the default)
  7 8 13               one line of text; 8 is one word
  10                   one character
  2 5 9                not supported
"""
ENGINES = """OCR engine modes:
  0 1 2 3              all the same: Linewise has one engine
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 1 after any error."""
    try:
        command = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        if command.action is not None:
            _print_information(command.action)
            return 0
        if command.image is None or command.output is None:
            sys.stdout.write(USAGE)
            return 1
        if not (command.quiet or command.value("debug_file")):
            for warning in command.warnings:
                _print_error(warning)
        run(command, command.image, command.output)
    except TesseractError as error:
        _print_error(str(error))
        return 1
    except BrokenPipeError:  # the reader of standard output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run(command: Command, image: str, output: str) -> None:
    """Read an image and write the outputs. Raises ``TesseractError``."""
    data = _read_input(image)
    try:
        reader = open_document_reader()
        if command.mode in ORIENTATION_MODES:
            text = orientation_text(reader.orientation(data))
            _write_output(output, "osd", [text.encode()])
            return
        document = _read_document(reader, command, data)
        for format_name in command.formats:
            _write_output(output, format_name, write(format_name, document, command, data))
    except ReadingError as error:
        raise TesseractError(f"Error, {error}\nError during processing.") from None


def _read_document(reader: DocumentReader, command: Command, data: bytes) -> Document:
    page = int(command.value("tessedit_page_number"))
    options = ReadOptions(
        mode="line" if command.mode in LINE_MODES else "auto",
        charset=_charset(command),
        charset_exclude=command.value("tessedit_char_blacklist"),
        lexicon=_lexicon(command),
        pages=(page,) if page >= 0 else None,
        with_characters="box" in command.formats,
    )
    return Document(tuple(as_stored(page) for page in reader.read(data, options).pages))


def _charset(command: Command) -> str | None:
    """The whitelist, with the space, which Tesseract always allows."""
    allowed = command.value("tessedit_char_whitelist")
    if not allowed:
        return None
    return allowed if command.mode in WORD_MODES or " " in allowed else f"{allowed} "


def _lexicon(command: Command) -> tuple[str, ...] | None:
    """The user's words, if the words of the language are switched off; Tesseract takes them for hints otherwise."""
    file = command.value("user_words_file")
    if not file:
        return None
    if command.is_true("load_system_dawg"):
        _print_error(f"{file}: not used: Linewise takes no hints; with -c load_system_dawg=0 only these words are read")
        return None
    try:
        words = tuple(line.strip() for line in Path(file).read_text("utf-8-sig").splitlines() if line.strip())
    except (OSError, ValueError) as error:
        raise TesseractError(f"Error, cannot read user words {file}: {_reason(error)}") from None
    if not words:
        raise TesseractError(f"Error, no words in {file}")
    return words


def _read_input(image: str) -> bytes:
    """Read the bytes of the image; formats that the recogniser does not take become PNG."""
    try:
        data = sys.stdin.buffer.read() if image in STANDARD_INPUT else Path(image).read_bytes()
    except (OSError, ValueError) as error:
        raise TesseractError(
            f"Error, cannot read input file {image}: {_reason(error)}\nError during processing."
        ) from None
    if not data.startswith(CONVERTED_SIGNATURES):
        return data
    import io

    from PIL import Image

    png = io.BytesIO()
    try:
        with Image.open(io.BytesIO(data), formats=CONVERTED_FORMATS) as opened:
            opened.save(png, "PNG", compress_level=1)
    except Exception as error:  # on malformed bytes, Pillow's plugins raise almost any type
        raise TesseractError(f"Error, cannot read input file {image}: {error}\nError during processing.") from None
    return png.getvalue()


def _write_output(output: str, format_name: str, content: Iterator[bytes] | list[bytes]) -> None:
    """Write a file, or to standard output."""
    parts = b"".join(content)
    if output in STANDARD_OUTPUT:
        sys.stdout.buffer.write(parts)
        sys.stdout.buffer.flush()
        return
    try:
        Path(output + SUFFIXES[format_name]).write_bytes(parts)
    except OSError as error:
        raise TesseractError(f"Error, could not create {format_name.upper()} output file: {_reason(error)}") from None


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _print_error(message: str) -> None:
    print(message.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), file=sys.stderr)


def _print_information(action: str) -> None:
    if action == "version":
        text = f"tesseract {EMULATED_VERSION}\n linewise {linewise.__version__}, which answers like tesseract\n"
    elif action == "list-langs":
        names = sorted(LANGUAGES)
        text = f'List of available languages in "linewise" ({len(names)}):\n' + "".join(f"{name}\n" for name in names)
    elif action == "print-parameters":
        rows = (f"{name}\t{value.encode('unicode_escape').decode()}\n" for name, value in VARIABLES.items())
        text = "Linewise parameters:\n" + "".join(rows)
    else:
        text = {"help": USAGE, "help-psm": MODES, "help-oem": ENGINES}[action]
    sys.stdout.write(text)


if __name__ == "__main__":
    sys.exit(main())

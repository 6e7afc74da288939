"""``linewise read --format``: what was read in a file, page or line, as the bytes of one file, and where that goes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from linewise.service.bulk.sources import Failure, content

if TYPE_CHECKING:
    from linewise.model import Decoding, PageReader, PageReading, Reading
    from linewise.service.documents.image import ImageLimits, UprightImage
    from linewise.service.inference.engine import LineReader
    from linewise.service.inference.pipeline import Outcome

Form = Literal["json", "text", "hocr", "alto", "pdf"]
SUFFIXES: dict[Form, str] = {"json": ".json", "text": ".txt", "hocr": ".hocr", "alto": ".xml", "pdf": ".pdf"}


class ExportError(Exception):
    """The files cannot be written as asked; the message is one line that says why."""


def targets(sources: Sequence[str], form: Form, output: Path | None) -> list[Path | None]:
    """Where each source goes: to its own file in the folder ``output``, or the only one to the file of that name.

    A name without a suffix is a folder's. None stands for standard output. Raises ``ExportError``.
    """
    count = len(sources)
    if output is None:
        if count > 1:
            raise ExportError(f"--format {form} of {count} images needs a folder for as many files: --output FOLDER")
        return [None]
    if output.suffix and not output.is_dir():
        if count > 1:
            raise ExportError(f"--output {output} names one file, and there are {count} images: name a folder")
        found = [output]
    else:
        if output.is_file():
            raise ExportError(f"--output {output} is a file; name a folder, or a file that ends in {SUFFIXES[form]}")
        found = [output / f"{'stdin' if source == '-' else Path(source).stem}{SUFFIXES[form]}" for source in sources]
    inputs = {Path(source).resolve() for source in sources}
    taken: dict[Path, str] = {}
    for source, target in zip(sources, found, strict=True):
        if target.resolve() in inputs:
            raise ExportError(f"{target} is one of the images and would be lost: name another --output")
        if target in taken:
            raise ExportError(f"{taken[target]} and {source} would both become {target}: write them to two folders")
        taken[target] = source
    return list(found)


def written(
    source: str,
    form: Form,
    reader: LineReader,
    pages: PageReader | None,
    limits: ImageLimits,
    decoding: Decoding | None = None,
    alternatives: int = 0,
) -> bytes | Failure:
    """What is read in a source, as pages where ``pages`` is given; a document of which a page is broken fails whole."""
    from linewise.service.api.options import Options
    from linewise.service.errors import ServiceError
    from linewise.service.formats.formats import Format, writing

    try:
        data = content(source)
        outcome = _read(data, reader, pages, limits, decoding)
        if form == "json":
            return _as_json(source, outcome, alternatives).encode()
        steps = writing(Format(form), outcome, Options(), lambda: data, limits)
        return next(done for done in steps if done is not None)
    except ServiceError as error:
        return Failure(source, error.detail)
    except OSError as error:
        return Failure(source, (error.strerror or "cannot be opened") + ".")


def _read(
    data: bytes, reader: LineReader, pages: PageReader | None, limits: ImageLimits, decoding: Decoding | None
) -> Outcome:
    from linewise.service.documents.image import decode
    from linewise.service.documents.multipage import decode_page, page_count
    from linewise.service.inference.engine import Recognition
    from linewise.service.inference.pipeline import DocumentRecognition, PageRecognition

    if pages is None:
        image = decode(data, limits)
        reading = reader.read([image.pixels], [decoding])[0]
        return Recognition(image, reading.turn, reading, 0.0, 0.0, 0.0)
    found = []
    for number in range(page_count(data, limits.max_pages)):
        image = decode_page(data, number, limits)
        page = pages.read(image.pixels)
        found.append(PageRecognition(image.sized(), page.turn, page, 0.0, 0.0, 0.0))
    return found[0] if len(found) == 1 else DocumentRecognition(tuple(found))


def _as_json(source: str, outcome: Outcome, alternatives: int) -> str:
    from linewise.service.inference.engine import Recognition
    from linewise.service.inference.pipeline import PageRecognition

    if isinstance(outcome, Recognition):
        return line_as_json(source, outcome.image, outcome.reading, alternatives) + "\n"
    parts = (outcome,) if isinstance(outcome, PageRecognition) else outcome.pages
    return "".join(page_as_json(source, i, part.image, part.page) + "\n" for i, part in enumerate(parts, start=1))


def line_as_json(source: str, image: UprightImage, reading: Reading, alternatives: int) -> str:
    """A picture of one line as a JSON object, without a line break."""
    told: dict[str, object] = {
        "image": source,
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


def page_as_json(source: str, number: int, image: UprightImage, reading: PageReading) -> str:
    """Page ``number``, from 1, as a JSON object, without a line break."""
    told = {
        "image": source,
        "page": number,
        "text": reading.text,
        "width": image.width,
        "height": image.height,
        "turn": reading.turn,
        "lines": [
            {
                "text": line.reading.text,
                "confidence": round(line.reading.confidence, 4),
                "confidence_min": round(line.reading.confidence_min, 4),
                "polygon": [[round(float(side) * image.scale, 1) for side in corner] for corner in line.quad],
                "row": line.row,
            }
            for line in reading.lines
        ],
    }
    return json.dumps(told, ensure_ascii=False)

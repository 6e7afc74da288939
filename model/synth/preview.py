"""Samples to look at, on one picture each over what is written in it, and samples to measure on."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from linewise.model.synth.renderer import Sample

IMAGES = "images"  # folder beside labels.tsv
ROW, CAPTION = 44, 16  # pixels
COLUMN = 380


def contact_sheet(samples: Iterable[Sample], path: Path, font: str, columns: int = 4) -> None:
    """Writes a PNG of the samples, each scaled to a row's height, its text and kind beneath.

    `font` is a file whose face can write the captions. Raises OSError where the file cannot be written.
    """
    drawn = list(samples)
    rows = -(-len(drawn) // columns)
    page = Image.new("RGB", (columns * COLUMN, max(1, rows) * (ROW + CAPTION)), "white")
    pen, face = ImageDraw.Draw(page), ImageFont.truetype(font, 11)
    for index, sample in enumerate(drawn):
        picture = Image.fromarray(sample.image)
        factor = min(ROW / picture.height, (COLUMN - 8) / picture.width)
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        x, y = index % columns * COLUMN, index // columns * (ROW + CAPTION)
        page.paste(picture.resize(size), (x, y))
        pen.text((x, y + ROW), f"{sample.kind}: {sample.text}"[:60], fill="black", font=face)
    page.save(path)


def labelled_folder(samples: Iterable[Sample], folder: Path) -> None:
    """Writes the samples that have text as PNG files with a `labels.tsv`, which `linewise evaluate` reads.

    The kind of a sample is in its file's name. Raises OSError where nothing can be written.
    """
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    lines = []
    for index, sample in enumerate(samples):
        if sample.text:
            name = f"{IMAGES}/{index:05}-{sample.kind}.png"
            Image.fromarray(sample.image).save(folder / name)
            lines.append(f"{name}\t{sample.text}\n")
    (folder / "labels.tsv").write_text("".join(lines), encoding="utf-8")

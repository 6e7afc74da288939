"""A contact sheet: many samples on one picture, each over what is written in it, to look at."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from model.synth.scene import Sample

ROW, CAPTION = 44, 16  # pixels
COLUMN = 380


def contact_sheet(samples: Iterable[Sample], path: Path, font: str, columns: int = 4) -> None:
    """Writes a PNG of the samples, each scaled to a row's height, its text and kind beneath.

    `font` is a file whose face can write the captions. Raises OSError where the file cannot be written.
    """
    drawn = list(samples)
    rows = -(-len(drawn) // columns)
    page = Image.new("L", (columns * COLUMN, max(1, rows) * (ROW + CAPTION)), 255)
    pen, face = ImageDraw.Draw(page), ImageFont.truetype(font, 11)
    for index, sample in enumerate(drawn):
        picture = Image.fromarray(sample.image)
        factor = min(ROW / picture.height, (COLUMN - 8) / picture.width)
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        x, y = index % columns * COLUMN, index // columns * (ROW + CAPTION)
        page.paste(picture.resize(size), (x, y))
        pen.text((x, y + ROW), f"{sample.kind}: {sample.text}"[:60], fill=0, font=face)
    page.save(path)

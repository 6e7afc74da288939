"""Write rendered samples to a contact sheet or to a labelled folder."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from linewise.model.synth.renderer import Sample

IMAGES_FOLDER = "images"  # beside labels.tsv
ROW_HEIGHT_PX, CAPTION_HEIGHT_PX, COLUMN_WIDTH_PX = 44, 16, 380
CAPTION_SIZE_PX = 11


def contact_sheet(samples: Iterable[Sample], path: Path, font: str, columns: int = 4) -> None:
    """Write a PNG of the samples, each scaled to a row's height above its kind and text.

    `font` is the path of the face for the captions.

    Raises:
        OSError: the file cannot be written.
    """
    shown = list(samples)
    rows = -(-len(shown) // columns)
    page = Image.new("RGB", (columns * COLUMN_WIDTH_PX, max(1, rows) * (ROW_HEIGHT_PX + CAPTION_HEIGHT_PX)), "white")
    pen, face = ImageDraw.Draw(page), ImageFont.truetype(font, CAPTION_SIZE_PX)
    for index, sample in enumerate(shown):
        image = Image.fromarray(sample.image)
        factor = min(ROW_HEIGHT_PX / image.height, (COLUMN_WIDTH_PX - 8) / image.width)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        x, y = index % columns * COLUMN_WIDTH_PX, index // columns * (ROW_HEIGHT_PX + CAPTION_HEIGHT_PX)
        page.paste(image.resize(size), (x, y))
        pen.text((x, y + ROW_HEIGHT_PX), f"{sample.kind}: {sample.text}"[:60], fill="black", font=face)
    page.save(path)


def labelled_folder(samples: Iterable[Sample], folder: Path) -> None:
    """Write the samples with text as PNG files and a `labels.tsv`, the format of `linewise evaluate`.

    File names contain the kind of the sample.

    Raises:
        OSError: the folder cannot be written.
    """
    (folder / IMAGES_FOLDER).mkdir(parents=True, exist_ok=True)
    lines = []
    for index, sample in enumerate(samples):
        if sample.text:
            name = f"{IMAGES_FOLDER}/{index:05}-{sample.kind}.png"
            Image.fromarray(sample.image).save(folder / name)
            lines.append(f"{name}\t{sample.text}\n")
    (folder / "labels.tsv").write_text("".join(lines), encoding="utf-8")

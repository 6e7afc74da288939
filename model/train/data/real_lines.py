"""Labelled lines of real pictures, from Parquet files, and their held-out pages."""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from linewise.model.network.charset import Charset

HELD_OUT_PAGES = 20  # one page in this many is kept out of training
IGNORE_CASE_KINDS = {"receipt"}  # their labels are in capitals whatever the picture shows


@dataclass(frozen=True)
class RealLine:
    """One labelled line: the bytes of its picture file, text, set and page."""

    data: bytes
    text: str
    set_name: str
    page: str
    ignore_case: bool

    @property
    def held_out(self) -> bool:
        """Whether the page belongs to the validation part; by a hash, so the same everywhere."""
        digest = hashlib.sha256(self.page.encode()).digest()
        return int.from_bytes(digest[:4], "big") % HELD_OUT_PAGES == 0

    def pixels(self) -> NDArray[np.uint8]:
        """The picture as grey uint8 `(H, W)`."""
        with Image.open(io.BytesIO(self.data)) as file:
            return np.asarray(file.convert("L"), np.uint8)


def read_parquet(path: Path) -> list[RealLine]:
    """The lines of one set that the alphabet can write.

    Columns: `id` (its part up to the last `/` names the page), `image`, `text`, `kind`.

    Raises:
        OSError: the file cannot be read.
        KeyError: a column is missing.
    """
    import pyarrow.parquet as pq

    charset = Charset()
    return [
        RealLine(row["image"], row["text"], path.stem, row["id"].rpartition("/")[0], row["kind"] in IGNORE_CASE_KINDS)
        for row in pq.read_table(path, columns=["id", "image", "text", "kind"]).to_pylist()
        if row["text"].strip() and not charset.unsupported(row["text"])
    ]


class RealLines:
    """Lines of several sets, drawn by the weight of each set; one half of them held out or not."""

    def __init__(self, weights: dict[Path, float], held_out: bool = False) -> None:
        self.sets = {path.stem: [line for line in read_parquet(path) if line.held_out == held_out] for path in weights}
        self.weights = {path.stem: weight for path, weight in weights.items() if self.sets[path.stem]}
        if not self.weights:
            raise ValueError("the files of real lines hold no usable line")

    def draw(self, random: Random) -> RealLine:
        """A line, by the weight of its set."""
        name = random.choices(list(self.weights), weights=list(self.weights.values()))[0]
        return random.choice(self.sets[name])

    @cached_property
    def _pages(self) -> dict[str, list[RealLine]]:
        pages: dict[str, list[RealLine]] = {}
        for line in self.all():
            pages.setdefault(line.page, []).append(line)
        return pages

    def page_mate(self, random: Random, line: RealLine) -> RealLine:
        """Another line of the same page, or the line itself where it is the only one."""
        others = [other for other in self._pages[line.page] if other is not line]
        return random.choice(others) if others else line

    def all(self) -> Iterable[RealLine]:
        """Every line, set by set."""
        for lines in self.sets.values():
            yield from lines

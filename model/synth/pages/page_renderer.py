"""Render whole pages by index, with the position and the text of each line."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from random import Random

import numpy as np

from linewise.model.synth.background import Grey
from linewise.model.synth.camera import Box
from linewise.model.synth.pages.capture import Quad, capture_page
from linewise.model.synth.pages.page_layout import FacePools, PageCanvas, blank_page, draw_clutter
from linewise.model.synth.pages.posters import draw_poster, draw_screen
from linewise.model.synth.pages.prose_pages import draw_book, draw_letter
from linewise.model.synth.pages.receipts import draw_receipt
from linewise.model.synth.pages.tables import draw_form, draw_table
from linewise.model.synth.sources.fonts import Face

# Share of each kind of page.
KINDS = {"receipt": 34, "book": 16, "letter": 12, "form": 10, "table": 10, "poster": 8, "screen": 7, "nothing": 3}


@dataclass(frozen=True)
class LabelledPart:
    """A word or a character: its text, and the corners `(4, 2)` of its ink in pixels, clockwise from the top left."""

    text: str
    quad: Quad


@dataclass(frozen=True)
class LabelledLine:
    """A line or a table cell: its text, and its corners `(4, 2)` in pixels, clockwise from the top left.

    `words` and `characters`, which are no spaces, are in the order of the text.
    """

    text: str
    quad: Quad
    words: tuple[LabelledPart, ...] = ()
    characters: tuple[LabelledPart, ...] = ()


@dataclass(frozen=True)
class PageSample:
    """A rendered page, grey uint8 `(H, W)`, with its lines in the order of drawing, and its kind."""

    image: Grey
    lines: tuple[LabelledLine, ...]
    kind: str


class PageRenderer:
    """Renders pages by index: `sample(i)` is the same page at every call.

    `kinds` maps kinds of page to weights; the default is `KINDS`.
    """

    def __init__(self, faces: Sequence[Face], seed: int = 0, kinds: dict[str, int] | None = None) -> None:
        self.seed = seed
        self.kinds = kinds or KINDS
        self._faces = FacePools(faces)

    def sample(self, index: int) -> PageSample:
        """Render page number `index` of this seed."""
        random = Random(self.seed * 1_000_003 + index)
        noise = np.random.default_rng((self.seed, index))
        kind = random.choices(list(self.kinds), weights=list(self.kinds.values()))[0]
        canvas = _PAGE_DRAWERS[kind](random, self._faces)
        screen = kind in ("screen", "poster")
        words = [_word_boxes(text, boxes) for text, boxes in zip(canvas.texts, canvas.characters, strict=True)]
        boxes = [*canvas.boxes, *chain(*words), *chain(*canvas.characters)]
        image, captured = capture_page(random, noise, canvas.plane, boxes, screen)
        quads = iter(captured)
        line_quads = list(islice(quads, len(canvas.texts)))
        line_words = [_label(text.split(), quads) for text in canvas.texts]
        line_characters = [_label(text.replace(" ", ""), quads) for text in canvas.texts]
        lines = map(LabelledLine, canvas.texts, line_quads, line_words, line_characters)
        return PageSample(image, tuple(lines), kind)


def _word_boxes(text: str, characters: Sequence[Box]) -> list[Box]:
    """Boxes around the words of a text, whose characters have these boxes."""
    boxes, ink = [], iter(characters)
    for word in text.split():
        lefts, tops, rights, bottoms = zip(*islice(ink, len(word)), strict=True)
        boxes.append((min(lefts), min(tops), max(rights), max(bottoms)))
    return boxes


def _label(texts: Sequence[str], quads: Iterator[Quad]) -> tuple[LabelledPart, ...]:
    """Parts with these texts, each with the next of the quads."""
    return tuple(LabelledPart(text, quad) for text, quad in zip(texts, islice(quads, len(texts)), strict=True))


def _draw_textless(random: Random, faces: FacePools) -> PageCanvas:
    """Draw a page without text, empty or with other shapes."""
    canvas = blank_page(random.randint(300, 900), random.randint(300, 900))
    draw_clutter(random, canvas, random.randint(0, 8))
    return canvas


_PAGE_DRAWERS: dict[str, Callable[[Random, FacePools], PageCanvas]] = {
    "receipt": draw_receipt,
    "book": draw_book,
    "letter": draw_letter,
    "form": draw_form,
    "table": draw_table,
    "poster": draw_poster,
    "screen": draw_screen,
    "nothing": _draw_textless,
}

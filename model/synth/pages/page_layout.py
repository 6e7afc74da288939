"""Lay out the ink of a page and record the box and the text of each line."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import cv2
import numpy as np

from linewise.model.synth import background, glyphs
from linewise.model.synth.background import Grey
from linewise.model.synth.camera import Box
from linewise.model.synth.sources import corpus
from linewise.model.synth.sources.fonts import Face, by_family, family_pools

MIN_PAGE_SIDE_PX = 64


class FacePools:
    """Faces by kind of print; each family of a pool is equally likely.

    Faces without lower-case letters and the Brk families are left out.
    """

    def __init__(self, faces: Sequence[Face]) -> None:
        families = by_family([f for f in faces if "a" in f.characters and not f.family.endswith(" brk")])
        self._pools = {name: list(pool.values()) for name, pool in family_pools(families).items()}

    def choose(self, random: Random, pool: str = "any") -> Face:
        """Choose a face of a pool: any, book, typewriter or receipt."""
        return random.choice(random.choice(self._pools[pool]))


@dataclass(frozen=True)
class TextStyle:
    """Face, size in pixels, and typesetting of a text."""

    face: Face
    size: int
    setting: glyphs.Typesetting = field(default_factory=glyphs.Typesetting)


@dataclass
class PageCanvas:
    """Ink of a page under layout: uint8 `(H, W)`, 255 = full ink, with the texts and boxes of its lines.

    `characters` are the ink boxes of each line's characters, without spaces. With `dotted`, letters are printed as by
    a dot-matrix printer.
    """

    plane: Grey
    dotted: bool = False
    texts: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    characters: list[list[Box]] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.plane.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.plane.shape[0])

    def draw_text(
        self, random: Random, style: TextStyle, text: str, x: float, baseline: float, anchor: str = "left"
    ) -> int:
        """Draw a line whose `anchor` (left, middle or right) is at `x`, and record it.

        Returns its right edge, or `x` where the line does not fit or overlaps a line of the same row.
        """
        drawable = corpus.fit_to_characters(" ".join(text.split()), style.face.characters)
        if not drawable:
            return int(x)
        font = glyphs.load_font(style.face.path, style.size)
        line = glyphs.draw_line(random, font, drawable, style.setting, with_boxes=True)
        if self.dotted:
            line = replace(line, mask=glyphs.print_dots(random, line.mask))
        height, width = line.mask.shape
        left = round(x - {"left": 0.0, "middle": width / 2, "right": width}[anchor])
        top = round(baseline) - line.baseline
        if left < 1 or top < 1 or left + width >= self.width or top + height >= self.height:
            return int(x)
        middle = top + height // 2
        if any(x0 < left + width and left < x1 and y0 < middle < y1 for x0, y0, x1, y1 in self.boxes):
            return int(x)
        background.paste(self.plane, line.mask, left, top)
        self.texts.append(drawable)
        self.boxes.append((left, top, left + width, top + height))
        self.characters.append([(left + a, top + b, left + c, top + d) for a, b, c, d in line.boxes])
        return int(left + width)


def blank_page(width: int, height: int, dotted: bool = False) -> PageCanvas:
    """Create an empty page of a size in pixels, at least `MIN_PAGE_SIDE_PX` on each side."""
    return PageCanvas(np.zeros((max(MIN_PAGE_SIDE_PX, height), max(MIN_PAGE_SIDE_PX, width)), np.uint8), dotted)


@dataclass(frozen=True)
class ParagraphFormat:
    """Line pitch in pixels, language, and justification of paragraphs."""

    line_pitch: float
    language: str
    justified: bool


def fill_paragraphs(
    random: Random,
    canvas: PageCanvas,
    style: TextStyle,
    paragraph: ParagraphFormat,
    area: tuple[float, float, float, float],
) -> None:
    """Fill an area (left, top, right, bottom) in pixels with paragraphs of prose."""
    left, top, right, bottom = area
    size, setting = style.size, style.setting
    font = glyphs.load_font(style.face.path, size)
    space = font.getlength(" ") * setting.word_space + setting.tracking * size
    y = top + size
    first = True
    while y < bottom:
        x = left + (size * random.uniform(1, 2.5) if first and random.random() < 0.8 else 0)
        last = random.random() < 0.15
        available = (right - x) * (random.uniform(0.2, 0.9) if last else 1)
        words: list[str] = []
        length = 0.0
        for word in corpus.prose(random, max(8, round(available / size * 2.4)), paragraph.language).split():
            advance = font.getlength(word) * (1 + setting.tracking) + (space if words else 0)
            if length + advance > available:
                break
            words.append(word)
            length += advance
        if words:
            stretch = 1.0
            if paragraph.justified and not last and len(words) > 2:
                stretch = min(2.5, 1 + (available - length) / (space * (len(words) - 1)))
            stretched = replace(setting, word_space=setting.word_space * stretch)
            canvas.draw_text(random, replace(style, setting=stretched), " ".join(words), x, y)
        first = last
        y += paragraph.line_pitch * (random.choice((1, 1, 1.6)) if last else 1)


def draw_rule(random: Random, canvas: PageCanvas, left: float, right: float, y: float) -> None:
    """Draw a solid or a dashed horizontal rule."""
    if random.random() < 0.5:
        cv2.line(canvas.plane, (round(left), round(y)), (round(right), round(y)), 255, random.randint(1, 2))
        return
    step = random.randint(3, 9)
    for x in range(round(left), round(right), step):
        cv2.line(canvas.plane, (x, round(y)), (x + max(1, step // 2), round(y)), 255, random.randint(1, 2))


def draw_clutter(random: Random, canvas: PageCanvas, count: int) -> None:
    """Draw shapes that are no text: ellipses, rectangles and scribbles, as of pictures, stamps and pens."""
    plane = canvas.plane
    for _ in range(count):
        x, y = random.randrange(canvas.width), random.randrange(canvas.height)
        size, level = random.randint(10, max(11, canvas.width // 3)), random.randint(60, 255)
        kind = random.random()
        if kind < 0.3:
            axes = (size, random.randint(5, size))
            angle = random.randint(0, 180)
            cv2.ellipse(plane, (x, y), axes, angle, 0, 360, level, random.choice((1, 2, 3, -1)))
        elif kind < 0.55:
            corner = (x + size, y + random.randint(5, size))
            cv2.rectangle(plane, (x, y), corner, level, random.choice((1, 2, 4, -1)))
        else:
            steps = [[random.randint(-size // 3 - 1, size // 3 + 1) for _ in range(2)] for _ in range(9)]
            path = np.asarray(np.cumsum(steps, 0) + np.array([x, y]), np.int32)
            cv2.polylines(plane, [path], False, level, random.randint(1, 3))

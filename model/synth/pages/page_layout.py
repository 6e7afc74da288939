"""Whole pages with the place of each line: receipts, books, letters, forms, tables, posters and screens."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import cv2
import numpy as np

from linewise.model.synth import background, glyphs
from linewise.model.synth.background import Grey
from linewise.model.synth.pages import capture
from linewise.model.synth.pages.capture import Quad
from linewise.model.synth.sources import corpus
from linewise.model.synth.sources.fonts import BOOK, RECEIPT, TYPEWRITER, Face, by_family

# Share of each kind of page.
KINDS = {"receipt": 34, "book": 16, "letter": 12, "form": 10, "table": 10, "poster": 8, "screen": 7, "nothing": 3}


@dataclass(frozen=True)
class Line:
    """A line or a cell of a table: its text, and its corners `(4, 2)` in pixels, clockwise from the top left."""

    text: str
    quad: Quad


@dataclass(frozen=True)
class Page:
    """A drawn page, grey uint8 `(H, W)`, with all its lines in reading order, and its kind."""

    image: Grey
    lines: tuple[Line, ...]
    kind: str


@dataclass
class _Sheet:
    """Ink that is being laid out: a plane, 255 = full ink, and the boxes (left, top, right, bottom) of what it says.

    `dotted` is for printers that make their letters of dots.
    """

    plane: Grey
    dotted: bool = False
    texts: list[str] = field(default_factory=list)
    boxes: list[tuple[int, int, int, int]] = field(default_factory=list)

    @property
    def width(self) -> int:
        return int(self.plane.shape[1])

    @property
    def height(self) -> int:
        return int(self.plane.shape[0])

    def put(self, random: Random, face: Face, size: int, written: str, x: float, baseline: float, anchor: str = "left",
            setting: glyphs.Setting | None = None) -> int:  # fmt: skip
        """Draws a line with its left, middle or right at `x`; returns its right edge, or `x` where there is no room."""
        able = corpus.restricted(" ".join(written.split()), face.characters)
        if not able:
            return int(x)
        line = glyphs.draw(random, glyphs.load(face.path, size), able, setting or glyphs.Setting())
        if self.dotted:
            line = glyphs.Line(glyphs.dots(random, line.mask), line.baseline)
        height, width = line.mask.shape
        left = round(x - {"left": 0.0, "middle": width / 2, "right": width}[anchor])
        top = round(baseline) - line.baseline
        if left < 1 or top < 1 or left + width >= self.width or top + height >= self.height:
            return int(x)
        middle = top + height // 2
        if any(x0 < left + width and left < x1 and y0 < middle < y1 for x0, y0, x1, y1 in self.boxes):
            return int(x)  # something else stands in this row already
        background.paste(self.plane, line.mask, left, top)
        self.texts.append(able)
        self.boxes.append((left, top, left + width, top + height))
        return int(left + width)


class Pages:
    """Draws pages by number: `sample(i)` is the same page whenever it is drawn again."""

    def __init__(self, faces: Sequence[Face], seed: int = 0, kinds: dict[str, int] | None = None) -> None:
        self.seed = seed
        self.kinds = kinds or KINDS
        families = by_family([f for f in faces if "a" in f.characters and not f.family.endswith(" brk")])
        self._pools = {
            "any": list(families.values()),
            "book": [f for f in families.values() if BOOK.search(f[0].name)] or list(families.values()),
            "typewriter": [f for f in families.values() if TYPEWRITER.search(f[0].name)] or list(families.values()),
            "receipt": [f for f in families.values() if RECEIPT.search(f[0].name)] or list(families.values()),
        }

    def sample(self, index: int) -> Page:
        """Page number `index` of this seed."""
        random = Random(self.seed * 1_000_003 + index)
        noise = np.random.default_rng((self.seed, index))
        kind = random.choices(list(self.kinds), weights=list(self.kinds.values()))[0]
        if kind == "nothing":
            sheet = _blank(random, random.randint(300, 900), random.randint(300, 900))
            _clutter(random, sheet, random.randint(0, 8))
        else:
            sheet = {"receipt": self._receipt, "book": self._book, "letter": self._letter, "form": self._form,
                     "table": self._table, "poster": self._poster, "screen": self._screen}[kind](random)  # fmt: skip
        image, quads = capture.shot(random, noise, sheet.plane, sheet.boxes, screen=kind in ("screen", "poster"))
        return Page(image, tuple(Line(t, q) for t, q in zip(sheet.texts, quads, strict=True)), kind)

    def _face(self, random: Random, pool: str = "any") -> Face:
        return random.choice(random.choice(self._pools[pool]))

    def _receipt(self, random: Random) -> _Sheet:
        width = random.randint(320, 640)
        size = max(10, round(width / random.uniform(20, 34)))
        face = self._face(random, "receipt" if random.random() < 0.8 else "any")
        large = self._face(random) if random.random() < 0.3 else face
        pitch = size * random.uniform(1.05, 1.7)
        rows = random.randint(12, 50)
        sheet = _blank(random, width, round(rows * pitch + 6 * size))
        sheet.dotted = random.random() < 0.12
        left, right = width * random.uniform(0.03, 0.1), width * random.uniform(0.9, 0.97)
        y = size * random.uniform(1.5, 3)
        anchor = random.choice(("middle", "middle", "left"))
        at = width / 2 if anchor == "middle" else left
        for number in range(random.randint(2, 7)):  # the head: who sells
            big = number == 0 and random.random() < 0.6
            sheet.put(random, large if big else face, round(size * (random.uniform(1.1, 1.6) if big else 1)),
                      _shop(random), at, y, anchor)  # fmt: skip
            y += pitch * (1.4 if big else 1)
        # What stands in a column is of one kind, and there are counts, rates and flags of one character.
        columns = [
            (place, random.choice(_CELLS))
            for place in sorted(random.uniform(left + (right - left) * 0.3, right) for _ in range(random.randint(0, 4)))
        ]
        counted, colon = random.random() < 0.3, left + (right - left) * random.uniform(0.25, 0.6)
        while y < sheet.height - 4 * size:
            kind = random.random()
            if kind < 0.12:
                _rule(random, sheet, left, right, y - size * 0.3)
            elif kind < 0.2:
                y += pitch * random.uniform(0.2, 0.8)
            elif kind < 0.45:  # a name and what it is worth
                name = random.choice(corpus.RECEIPT_WORDS)
                if random.random() < 0.3:  # with the colons below each other
                    if sheet.put(random, face, size, name, left, y) < colon - size:
                        sheet.put(random, face, size, ":", colon, y)
                else:
                    sheet.put(random, face, size, name + random.choice((":", " :", "")), left, y)
                sheet.put(random, face, size, corpus.number(random), right, y, "right")
            elif kind < 0.7:  # an article with its columns
                start = left
                if counted:
                    start = sheet.put(random, face, size, str(random.randint(1, 12)), left, y) + size * 1.5
                end = sheet.put(random, face, size, _few(random, random.randint(1, 3)), start, y)
                for place, written in [*columns, (right, corpus.number)]:
                    if place - size * 3 > end:
                        end = sheet.put(random, face, size, written(random), place, y, "right")
            else:
                start, side = random.choice(((left, "left"), (left, "left"), (at, anchor)))
                sheet.put(random, face, size, corpus.receipt_line(random), start, y, side)
            y += pitch
        for _ in range(random.randint(0, 3)):
            sheet.put(random, face, size, random.choice(corpus.RECEIPT_WORDS), width / 2, y, "middle")
            y += pitch
        if random.random() < 0.25:
            _barcode(random, sheet, y)
        if random.random() < 0.3:  # somebody's pen, and a stamp
            _clutter(random, sheet, random.randint(1, 3))
        return sheet

    def _paragraphs(self, random: Random, sheet: _Sheet, face: Face, size: int, area: tuple[float, float, float, float],
                    pitch: float, tongue: str, justified: bool, setting: glyphs.Setting) -> None:  # fmt: skip
        """Fills an area (left, top, right, bottom) with paragraphs."""
        left, top, right, bottom = area
        font = glyphs.load(face.path, size)
        space = font.getlength(" ") * setting.word_space + setting.tracking * size
        y = top + size
        first = True
        while y < bottom:
            x = left + (size * random.uniform(1, 2.5) if first and random.random() < 0.8 else 0)
            last = random.random() < 0.15
            room = (right - x) * (random.uniform(0.2, 0.9) if last else 1)
            words: list[str] = []
            length = 0.0
            for word in corpus.prose(random, max(8, round(room / size * 2.4)), tongue).split():
                step = font.getlength(word) * (1 + setting.tracking) + (space if words else 0)
                if length + step > room:
                    break
                words.append(word)
                length += step
            if words:
                stretch = 1.0
                if justified and not last and len(words) > 2:
                    stretch = min(2.5, 1 + (room - length) / (space * (len(words) - 1)))
                set_ = glyphs.Setting(**{**setting.__dict__, "word_space": setting.word_space * stretch})
                sheet.put(random, face, size, " ".join(words), x, y, "left", set_)
            first = last
            y += pitch * (random.choice((1, 1, 1.6)) if last else 1)

    def _book(self, random: Random) -> _Sheet:
        size = random.randint(11, 26)
        columns = random.choice((1, 1, 1, 2))
        width = round(size * random.uniform(22, 34) * columns * 0.8)
        sheet = _blank(random, width, round(width * random.uniform(0.8, 1.6)))
        face = self._face(random, "book")
        setting = glyphs.Setting(word_space=random.uniform(0.8, 1.4), thin=random.choice((0.0, 0.15)))
        pitch = size * random.uniform(1.05, 1.5)
        margin = width * random.uniform(0.05, 0.14)
        tongue = random.choice(("en", "en", "fr", "es", "de"))
        if random.random() < 0.7:
            sheet.put(random, face, size, corpus.page_number(random), width / 2, margin * 0.7 + size * 0.5, "middle")
        gutter = size * random.uniform(1, 2.5)
        breadth = (width - 2 * margin - gutter * (columns - 1)) / columns
        top = margin + size * random.uniform(0, 2)
        if random.random() < 0.25:
            sheet.put(random, face, round(size * 1.4), corpus.heading(random), width / 2, top + size, "middle")
            top += size * 2.5
        for column in range(columns):
            start = margin + column * (breadth + gutter)
            self._paragraphs(random, sheet, face, size, (start, top, start + breadth, sheet.height - margin), pitch,
                             tongue, random.random() < 0.85, setting)  # fmt: skip
        return sheet

    def _letter(self, random: Random) -> _Sheet:
        size = random.randint(11, 24)
        width = round(size * random.uniform(26, 44))
        sheet = _blank(random, width, round(width * random.uniform(0.6, 1.5)))
        typed = random.random() < 0.6
        face = self._face(random, "typewriter" if typed else "any")
        setting = glyphs.Setting(
            jitter=random.choice((0.0, 0.012)), unevenness=random.choice((0.0, 0.3)) if typed else 0.0
        )
        margin, y = width * random.uniform(0.06, 0.14), size * 3.0
        for _ in range(random.randint(0, 5)):
            side = random.choice(("left", "right"))
            sheet.put(random, face, size, random.choice((_shop, corpus.date, corpus.heading))(random),
                      margin if side == "left" else width - margin, y, side)  # fmt: skip
            y += size * random.uniform(1.2, 2)
        tongue = random.choice(("en", "de", "cs", "da", "fr"))
        self._paragraphs(random, sheet, face, size, (margin, y + size, width - margin, sheet.height - margin * 0.6),
                         size * random.uniform(1.15, 2.1), tongue, False, setting)  # fmt: skip
        return sheet

    def _form(self, random: Random) -> _Sheet:
        size = random.randint(10, 20)
        width, height = round(size * random.uniform(26, 46)), round(size * random.uniform(20, 50))
        sheet = _blank(random, width, height)
        face, filled = self._face(random), self._face(random)
        y = size * 2.0
        sheet.put(random, face, round(size * random.uniform(1.2, 1.8)), _shop(random), width / 2, y, "middle")
        y += size * 1.5
        while y < height - size * 4:
            cells = random.randint(1, 4)
            edges = [size, *sorted(random.uniform(size * 4, width - size * 4) for _ in range(cells - 1)), width - size]
            tall = size * random.uniform(1.7, 3.2)
            for start, end in itertools.pairwise(edges):
                if random.random() < 0.75:
                    cv2.rectangle(sheet.plane, (round(start), round(y)), (round(end), round(y + tall)), 255,
                                  random.randint(1, 2))  # fmt: skip
                label = sheet.put(random, face, max(8, round(size * 0.7)), _few(random, random.randint(1, 3)),
                                  start + size * 0.3, y + size * 0.85)  # fmt: skip
                if random.random() < 0.7 and end - label > size * 3:
                    at, low = (
                        (start + size * 0.5, y + tall - size * 0.3) if tall > size * 2.3 else (label + size, y + size)
                    )
                    sheet.put(
                        random,
                        filled,
                        size,
                        random.choice((corpus.number, corpus.date, corpus.code, _shop))(random),
                        at,
                        low,
                    )
            y += tall + random.choice((0.0, size * random.uniform(0.2, 1)))
        return sheet

    def _table(self, random: Random) -> _Sheet:
        size = random.randint(10, 20)
        columns, rows = random.randint(2, 9), random.randint(4, 20)
        writers = [
            lambda r: _few(r, 1),
            *random.choices((*_CELLS, corpus.number, corpus.date, corpus.code), k=columns - 1),
        ]
        narrow = [writer in (_count, _flag) for writer in writers]
        cells = [size * random.uniform(*((2.2, 5) if small else (5, 9))) for small in narrow]
        edges = [size * 1.5, *(size * 1.5 + end for end in itertools.accumulate(cells))]
        width, pitch = round(edges[-1] + size * 1.5), size * random.uniform(1.2, 2.2)
        sheet = _blank(random, width, round(pitch * (rows + 3)))
        face = self._face(random)
        ruled, right = random.random() < 0.5, [random.random() < 0.5 for _ in range(columns)]
        for row in range(rows):
            y = pitch * (row + 1.5)
            for column in range(columns):
                if random.random() < 0.08:
                    continue
                words = _few(random, 1) if row == 0 and not narrow[column] else writers[column](random)
                x = edges[column]
                if right[column]:
                    sheet.put(random, face, size, words, x + cells[column] - size * 0.4, y, "right")
                else:
                    sheet.put(random, face, size, words, x + size * 0.4, y)
            if ruled:
                cv2.line(sheet.plane, (round(size * 1.5), round(y + pitch * 0.3)),
                         (round(edges[-1]), round(y + pitch * 0.3)), 255, 1)  # fmt: skip
        if ruled and random.random() < 0.7:
            for x in map(round, edges):
                cv2.line(sheet.plane, (x, round(pitch * 0.8)), (x, round(pitch * (rows + 0.8))), 255, 1)
        return sheet

    def _poster(self, random: Random) -> _Sheet:
        width, height = random.randint(300, 900), random.randint(200, 900)
        sheet = _blank(random, width, height)
        y = 10.0
        while y < height - 30:
            size = random.randint(14, 90)
            y += size * random.uniform(1.0, 1.6)
            anchor = random.choice(("middle", "left", "right"))
            at = {"middle": width / 2, "left": 12, "right": width - 12}[anchor]
            words = _few(random, random.randint(1, 4))
            sheet.put(
                random, self._face(random), size, words.upper() if random.random() < 0.4 else words, at, y, anchor
            )
        if random.random() < 0.4:
            _clutter(random, sheet, random.randint(1, 3))
        return sheet

    def _screen(self, random: Random) -> _Sheet:
        width, height = random.randint(400, 900), random.randint(250, 700)
        sheet = _blank(random, width, height)
        face, size = self._face(random), random.randint(11, 18)
        for _ in range(random.randint(2, 7)):  # windows, menus, buttons
            left, top = random.randint(2, width - 120), random.randint(2, height - 60)
            right, bottom = (
                min(width - 2, left + random.randint(100, 500)),
                min(height - 2, top + random.randint(30, 300)),
            )
            if any(b[0] < right and b[2] > left and b[1] < bottom and b[3] > top for b in sheet.boxes):
                continue
            if random.random() < 0.6:
                cv2.rectangle(sheet.plane, (left, top), (right, bottom), random.randint(60, 255), 1)
            y = top + size * 1.5
            while y < bottom - 4:
                x = float(left + size * 0.6)
                for _ in range(random.choice((1, 1, 2, 4))):
                    words = random.choice(
                        (_few(random, random.randint(1, 5)), corpus.address(random), corpus.number(random))
                    )
                    end = sheet.put(random, face, size, words, x, y)
                    if end == int(x) or end > right:
                        break
                    x = end + size * random.uniform(1.5, 4)
                y += size * random.uniform(1.3, 2.2)
        return sheet


def _blank(random: Random, width: int, height: int) -> _Sheet:
    return _Sheet(np.zeros((max(64, height), max(64, width)), np.uint8))


def _few(random: Random, count: int) -> str:
    words = " ".join(corpus.vocabulary(corpus.language(random)).draw(random) for _ in range(count))
    return random.choice((str.upper, corpus.titled, corpus.capitalised, str))(words)


def _count(random: Random) -> str:
    return str(random.choice((random.randint(0, 9), random.randint(1, 30), -random.randint(1, 9))))


def _flag(random: Random) -> str:
    return random.choice(("S", "Z", "SR", "ZR", "T", "X", "A", "B", "*", "%", "6%", "0%", "EA", "KG", "x", "@"))


_CELLS = (corpus.number, corpus.number, _count, _count, _flag)


def _shop(random: Random) -> str:
    return random.choice((lambda: _few(random, random.randint(1, 4)),
                          lambda: _few(random, 2) + " " + corpus.code(random),
                          lambda: random.choice(corpus.RECEIPT_WORDS) + ": " + corpus.code(random),
                          lambda: f"NO. {random.randint(1, 99)}, " + _few(random, 3)))()  # fmt: skip


def _rule(random: Random, sheet: _Sheet, left: float, right: float, y: float) -> None:
    if random.random() < 0.5:
        cv2.line(sheet.plane, (round(left), round(y)), (round(right), round(y)), 255, random.randint(1, 2))
        return
    step = random.randint(3, 9)
    for x in range(round(left), round(right), step):
        cv2.line(sheet.plane, (x, round(y)), (x + max(1, step // 2), round(y)), 255, random.randint(1, 2))


def _barcode(random: Random, sheet: _Sheet, y: float) -> None:
    x, end = sheet.width * 0.2, sheet.width * 0.8
    tall = random.randint(15, 50)
    while x < end and y + tall < sheet.height:
        bar = random.randint(1, 4)
        cv2.rectangle(sheet.plane, (round(x), round(y)), (round(x) + bar - 1, round(y) + tall), 255, -1)
        x += bar + random.randint(1, 5)


def _clutter(random: Random, sheet: _Sheet, count: int) -> None:
    """What is no text: pictures' edges, stamps, scribbles, blots."""
    for _ in range(count):
        x, y = random.randrange(sheet.width), random.randrange(sheet.height)
        size, level = random.randint(10, max(11, sheet.width // 3)), random.randint(60, 255)
        kind = random.random()
        if kind < 0.3:
            cv2.ellipse(sheet.plane, (x, y), (size, random.randint(5, size)), random.randint(0, 180), 0, 360, level,
                        random.choice((1, 2, 3, -1)))  # fmt: skip
        elif kind < 0.55:
            cv2.rectangle(
                sheet.plane, (x, y), (x + size, y + random.randint(5, size)), level, random.choice((1, 2, 4, -1))
            )
        else:
            steps = [[random.randint(-size // 3 - 1, size // 3 + 1) for _ in range(2)] for _ in range(9)]
            path = np.asarray(np.cumsum(steps, 0) + np.array([x, y]), np.int32)
            cv2.polylines(sheet.plane, [path], False, level, random.randint(1, 3))

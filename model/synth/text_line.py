"""Receipts, book pages, typescripts and screens: a line among its neighbours, and the scanner that took it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import cv2
import numpy as np
from PIL.ImageFont import FreeTypeFont

from linewise.model.synth import background, camera, glyphs
from linewise.model.synth.background import Grey
from linewise.model.synth.camera import Picture
from linewise.model.synth.sources import corpus
from linewise.model.synth.sources.fonts import Face


@dataclass(frozen=True)
class Style:
    """How a kind of document is set, the pool of its faces, and what writes its lines."""

    setting: glyphs.Setting
    pool: str
    write: Callable[[], str]


def style(random: Random, kind: str) -> Style:
    """One of the ways in which a document of this kind is made."""
    length = max(4, round(random.triangular(4, 64, 22)))
    if kind == "typescript":
        tongue = random.choices(("de", "cs", "da", "en", "fr", "pl"), weights=(28, 30, 18, 14, 5, 5))[0]
        setting = glyphs.Setting(
            jitter=random.choice((0.0, 0.012, 0.025)), unevenness=random.choice((0.0, 0.3, 0.6)), word_space=1.0
        )
        return Style(setting, "typewriter", lambda: corpus.prose(random, length, tongue))
    if kind == "book":
        spoken = random.choices(("en", "fr", "es", None), weights=(42, 20, 25, 13))[0]
        setting = glyphs.Setting(
            word_space=random.uniform(0.75, 2.0),
            thin=random.choice((0.0, 0.0, 0.15, 0.28)),
            tracking=random.choice((0.0, 0.0, 0.0, 0.02)),
        )
        short = random.choice((corpus.page_number, corpus.heading)) if random.random() < 0.04 else None
        pool = "any" if random.random() < 0.15 else "book"
        return Style(setting, pool, lambda: short(random) if short else corpus.prose(random, length, spoken))
    if kind == "receipt":
        setting = glyphs.Setting(
            tracking=random.choice((0.0, 0.0, random.uniform(0.0, 0.15))), word_space=random.uniform(0.8, 1.7)
        )
        return Style(setting, "receipt" if random.random() < 0.7 else "any", lambda: corpus.receipt_line(random))
    setting = glyphs.Setting(word_space=random.uniform(0.8, 1.4))
    prose = random.random() < 0.6
    return Style(setting, "any", lambda: corpus.prose(random, length) if prose else corpus.receipt_line(random))


def picture(
    random: Random, noise: np.random.Generator, hardness: float, kind: str, style: Style, face: Face, written: str
) -> Picture:
    """A scan, uint8 `(H, W)` or `(H, W, 3)`, of a line of the document `kind` that says `written` in `face`."""
    setting = style.setting
    if kind == "typescript" and not face.monospaced:
        setting = replace(setting, monospaced=random.random() < 0.5)
    font = glyphs.load(face.path, random.choice((26, 30, 34, 40)))
    shown = glyphs.joined(font, written) if not setting.tracking and random.random() < 0.6 else written
    line = glyphs.draw(random, font, shown, setting)
    if kind == "receipt" and random.random() < 0.2:
        line = glyphs.Line(glyphs.dots(random, line.mask), line.baseline)
    stretch = random.choice((1.0, 1.0, random.uniform(0.72, 1.25)))
    plane, box = _page(random, font, face, line, setting, kind, style.write)
    plane = np.asarray(
        cv2.resize(plane, (max(8, round(plane.shape[1] * stretch)), plane.shape[0]), interpolation=cv2.INTER_AREA),
        np.uint8,
    )
    box = (round(box[0] * stretch), box[1], round(box[2] * stretch), box[3])
    if random.random() < 0.45 * hardness:
        plane = glyphs.wear(random, noise, plane, font.size)
    if kind in ("book", "typescript") and random.random() < 0.35 * hardness:
        plane = glyphs.specks(random, noise, plane, font.size)
    if random.random() < 0.12:
        ruled(random, plane, box)
    image = printed(random, noise, plane, kind)
    tilt = hardness * random.choice((0.0, 0.05, 0.1, 0.2)) * min(1.0, 260 / max(1, box[2] - box[0]) + 0.25)
    image, corners = camera.view(random, image, box, tilt)
    image = background.crop(random, image, corners, 0.02)
    return scanned(random, noise, image, hardness, kind)


def _page(random: Random, font: FreeTypeFont, face: Face, line: glyphs.Line, setting: glyphs.Setting,
          kind: str, write: Callable[[], str]) -> tuple[Grey, tuple[int, int, int, int]]:  # fmt: skip
    """The line's ink with its margins and, often, the lines above and below; and the crop's box."""
    height, width = line.mask.shape
    size = float(font.size)
    pad = round(size * 2.2)
    plane = np.zeros((height + 2 * pad, width + 2 * pad), np.uint8)
    plane[pad : pad + height, pad : pad + width] = line.mask
    loose = kind == "typescript" or random.random() < 0.35
    above, below = (
        (random.uniform(0.1, 0.9), random.uniform(0.05, 0.5))
        if loose
        else (random.gauss(0.06, 0.06), random.gauss(0.06, 0.06))
    )
    if random.random() < (0.75 if loose else 0.25):
        pitch = round(size * random.uniform(1.0, 1.5))
        for step in (-1, 1):
            other = corpus.restricted(corpus.joined([write()]), face.characters)
            if other:
                near = glyphs.draw(random, font, other, setting)
                mask = near.mask if near.mask.shape[1] > width * 0.6 else np.tile(near.mask, (1, 2))
                background.paste(
                    plane, mask, pad + random.randint(-20, 10), pad + line.baseline + step * pitch - near.baseline
                )
    sides = size * abs(random.gauss(0.05, 0.25 if loose else 0.1))
    box = (
        pad - round(sides),
        pad - round(above * size),
        pad + width + round(size * abs(random.gauss(0.05, 0.25))),
        pad + height + round(below * size),
    )
    return plane, box


def printed(random: Random, noise: np.random.Generator, plane: Grey, kind: str) -> Grey:
    """Paper or screen with the line's ink on it; now and then light on dark."""
    shape = (plane.shape[0], plane.shape[1])
    if kind == "screen" and random.random() < 0.6:
        base, letters = background.levels(random)
    else:
        base = random.choice((255.0, 250.0, random.uniform(170, 255), random.uniform(120, 235)))
        darkest = {"receipt": 0.75, "typescript": 0.55}.get(kind, 0.35)
        letters = base * random.uniform(0.0, darkest if random.random() < 0.5 else 0.3)
    canvas = np.full(shape, base, np.float32)
    if kind != "screen" and random.random() < 0.5:
        canvas += background.field(random, noise, shape, random.choice((2, 4, 20))) * random.uniform(2, 22)
    if kind in ("book", "typescript") and random.random() < 0.2:  # the other side shows through
        spread = random.uniform(0.6, 2.0)
        back = cv2.GaussianBlur(np.ascontiguousarray(plane[:, ::-1]), (0, 0), spread).astype(np.float32) / 255
        away = (random.randint(-shape[0] // 4, shape[0] // 4), random.randint(-60, 60))
        canvas -= np.roll(back, away, (0, 1)) * (base - letters) * random.uniform(0.04, 0.2 + 0.25 * random.random())
    alpha = plane.astype(np.float32) / 255
    canvas += alpha * (letters - canvas)
    if kind == "receipt" and random.random() < 0.08:
        canvas = 255 - canvas
    return np.asarray(np.clip(canvas, 0, 255), np.uint8)


def ruled(random: Random, plane: Grey, box: tuple[int, int, int, int]) -> None:
    """A rule under or over the line, a box around it, or a stroke at its side."""
    left, top, right, bottom = box
    thick = random.randint(1, 3)
    choice = random.random()
    if choice < 0.45:
        y = bottom - random.randint(0, 6)
        cv2.line(plane, (left - 30, y), (right + 30, y + random.randint(-2, 2)), 255, thick)
    elif choice < 0.6:
        cv2.line(plane, (left - 30, top + 2), (right + 30, top + 2), 255, thick)
    elif choice < 0.8:
        cv2.rectangle(plane, (left - 2, top - 1), (right + 2, bottom + 1), 255, thick)
    else:
        x = random.choice((left, right))
        cv2.line(plane, (x, top - 20), (x, bottom + 20), 255, thick)


def scanned(random: Random, noise: np.random.Generator, image: Grey, hardness: float, kind: str) -> Picture:
    """A line as a scanner or a screenshot delivers it."""
    if random.random() < 0.4:
        image = background.tinted(random, image)
    if kind != "screen":
        image = camera.blur(random, image, 0.05 * hardness)
    low = 16 if kind == "receipt" else 22
    height = round(random.triangular(low + (1 - hardness) * 12, 70, 34))
    image = camera.resample(random, image, height)
    image = camera.noise(random, noise, image, 26 * hardness)
    if (kind == "book" and random.random() < 0.55) or (kind != "screen" and random.random() < 0.12):
        return camera.binarise(random, image)
    if random.random() < 0.12:
        image = camera.sharpen(image, random.uniform(0.4, 1.5))
    if random.random() < 0.55:
        image = camera.jpeg(image, random.randint(20, 95))
    return image

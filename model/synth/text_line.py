"""Text lines of receipts, books, typescripts and screens, with neighbouring lines, as scanned."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import cv2
import numpy as np
from PIL.ImageFont import FreeTypeFont

from linewise.model.synth import background, camera, glyphs, spacing
from linewise.model.synth.background import Grey
from linewise.model.synth.camera import Box, Image, RenderContext
from linewise.model.synth.sources import corpus, fields
from linewise.model.synth.sources.fonts import Face


@dataclass(frozen=True)
class Style:
    """Style of a document: its typesetting, the pool of its faces, and the writer of its lines."""

    setting: glyphs.Typesetting
    pool: str
    write: Callable[[], str]


def choose_style(random: Random, kind: str) -> Style:
    """Choose a style for a document of a kind: typescript, book, receipt or screen."""
    length = max(4, round(random.triangular(4, 64, 22)))
    if kind == "typescript":
        return _typescript_style(random, length)
    if kind == "book":
        return _book_style(random, length)
    if kind == "receipt":
        setting = glyphs.Typesetting(
            tracking=random.choice((0.0, 0.0, random.uniform(0.0, 0.15))), word_space=random.uniform(0.8, 1.7)
        )
        return Style(setting, "receipt" if random.random() < 0.7 else "any", lambda: corpus.receipt_line(random))
    setting = glyphs.Typesetting(word_space=random.uniform(0.8, 1.4))
    prose = random.random() < 0.6
    return Style(setting, "any", lambda: corpus.prose(random, length) if prose else corpus.receipt_line(random))


def _typescript_style(random: Random, length: int) -> Style:
    """Choose a style with typewriter jitter and lines of about `length` characters."""
    language = random.choices(("de", "cs", "da", "en", "fr", "pl"), weights=(28, 30, 18, 14, 5, 5))[0]
    setting = glyphs.Typesetting(
        jitter=random.choice((0.0, 0.012, 0.025)), ink_variation=random.choice((0.0, 0.3, 0.6)), word_space=1.0
    )
    return Style(setting, "typewriter", lambda: corpus.prose(random, length, language))


def _book_style(random: Random, length: int) -> Style:
    """Choose a style with a book's spacing; lines have about `length` characters or are headings."""
    language = random.choices(("en", "fr", "es", None), weights=(42, 20, 25, 13))[0]
    setting = glyphs.Typesetting(
        word_space=random.uniform(0.75, 2.0),
        thin_space=random.choice((0.0, 0.0, 0.15, 0.28)),
        tracking=random.choice((0.0, 0.0, 0.0, 0.02)),
    )
    short = random.choice((fields.page_number, fields.heading)) if random.random() < 0.04 else None
    pool = "any" if random.random() < 0.15 else "book"
    return Style(setting, pool, lambda: short(random) if short else corpus.prose(random, length, language))


def render(context: RenderContext, kind: str, style: Style, face: Face, text: str) -> Image:
    """Render a scanned line that says `text` in `face`, uint8 `(H, W)` or `(H, W, 3)`."""
    random, noise, difficulty = context.random, context.noise, context.difficulty
    if kind == "typescript" and not face.monospaced:
        style = replace(style, setting=replace(style.setting, monospaced=random.random() < 0.5))
    font = glyphs.load_font(face.path, random.choice((26, 30, 34, 40)))
    ligatures = not style.setting.tracking and random.random() < 0.6
    line = glyphs.draw_line(random, font, glyphs.apply_ligatures(font, text) if ligatures else text, style.setting)
    if kind == "receipt" and random.random() < 0.2:
        line = glyphs.LineMask(glyphs.print_dots(random, line.mask), line.baseline)
    stretch = random.choice((1.0, 1.0, random.uniform(0.72, 1.25)))
    plane, box = spacing.add_margins(random, *_add_neighbours(random, kind, style, face, font, line))
    width = max(8, round(plane.shape[1] * stretch))
    plane = np.asarray(cv2.resize(plane, (width, plane.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
    box = (round(box[0] * stretch), box[1], round(box[2] * stretch), box[3])
    if random.random() < 0.45 * difficulty:
        plane = glyphs.wear(random, noise, plane, font.size)
    if kind in ("book", "typescript") and random.random() < 0.35 * difficulty:
        plane = glyphs.add_specks(random, noise, plane, font.size)
    if random.random() < spacing.DUST_SHARE:
        plane = spacing.add_dust(random, noise, plane, font.size)
    if random.random() < 0.12:
        draw_rule(random, plane, box)
    image = print_ink(random, noise, plane, kind)
    strength = difficulty * random.choice((0.0, 0.05, 0.1, 0.2)) * min(1.0, 260 / max(1, box[2] - box[0]) + 0.25)
    image, corners = camera.warp_view(random, image, box, strength)
    image = background.crop(random, image, corners, 0.02)
    return scan(context, image, kind)


def _add_neighbours(
    random: Random, kind: str, style: Style, face: Face, font: FreeTypeFont, line: glyphs.LineMask
) -> tuple[Grey, Box]:
    """Place the line on a plane, often with lines above and below.

    Returns the plane and the box to crop.
    """
    height, width = line.mask.shape
    size = float(font.size)
    pad = round(size * 2.2)
    plane = np.pad(line.mask, pad)
    loose = kind == "typescript" or random.random() < 0.35
    above, below = (
        (random.uniform(0.1, 0.9), random.uniform(0.05, 0.5))
        if loose
        else (random.gauss(0.06, 0.06), random.gauss(0.06, 0.06))
    )
    if random.random() < (0.75 if loose else 0.25):
        pitch = round(size * random.uniform(1.0, 1.5))
        for step in (-1, 1):
            text = corpus.fit_to_characters(corpus.collapse_spaces(style.write()), face.characters)
            if text:
                neighbour = glyphs.draw_line(random, font, text, style.setting)
                mask = neighbour.mask if neighbour.mask.shape[1] > width * 0.6 else np.tile(neighbour.mask, (1, 2))
                x, baseline = pad + random.randint(-20, 10), pad + line.baseline + step * pitch
                background.paste(plane, mask, x, baseline - neighbour.baseline)
    margin_left = size * abs(random.gauss(0.05, 0.25 if loose else 0.1))
    margin_right = size * abs(random.gauss(0.05, 0.25))
    box = (
        pad - round(margin_left),
        pad - round(above * size),
        pad + width + round(margin_right),
        pad + height + round(below * size),
    )
    return plane, box


def print_ink(random: Random, noise: np.random.Generator, plane: Grey, kind: str) -> Grey:
    """Print the ink of a line on paper or show it on a screen, sometimes light on dark."""
    shape = (plane.shape[0], plane.shape[1])
    if kind == "screen" and random.random() < 0.6:
        base, letters = background.random_grey_levels(random)
    else:
        base = random.choice((255.0, 250.0, random.uniform(170, 255), random.uniform(120, 235)))
        lightest_ink = {"receipt": 0.75, "typescript": 0.55}.get(kind, 0.35)
        letters = base * random.uniform(0.0, lightest_ink if random.random() < 0.5 else 0.3)
    canvas = np.full(shape, base, np.float32)
    if kind != "screen" and random.random() < 0.5:
        canvas += background.smooth_noise(noise, shape, random.choice((2, 4, 20))) * random.uniform(2, 22)
    if kind in ("book", "typescript") and random.random() < 0.2:  # print of the other side shows through
        sigma = random.uniform(0.6, 2.0)
        back = cv2.GaussianBlur(np.ascontiguousarray(plane[:, ::-1]), (0, 0), sigma).astype(np.float32) / 255
        shift = (random.randint(-shape[0] // 4, shape[0] // 4), random.randint(-60, 60))
        canvas -= np.roll(back, shift, (0, 1)) * (base - letters) * random.uniform(0.04, 0.2 + 0.25 * random.random())
    alpha = plane.astype(np.float32) / 255
    canvas += alpha * (letters - canvas)
    if kind == "receipt" and random.random() < 0.08:
        canvas = 255 - canvas
    return np.asarray(np.clip(canvas, 0, 255), np.uint8)


def draw_rule(random: Random, plane: Grey, box: Box) -> None:
    """Draw a rule under, over or beside the line, or a frame around it, in place."""
    left, top, right, bottom = box
    thickness = random.randint(1, 3)
    choice = random.random()
    if choice < 0.45:
        y = bottom - random.randint(0, 6)
        cv2.line(plane, (left - 30, y), (right + 30, y + random.randint(-2, 2)), 255, thickness)
    elif choice < 0.6:
        cv2.line(plane, (left - 30, top + 2), (right + 30, top + 2), 255, thickness)
    elif choice < 0.8:
        cv2.rectangle(plane, (left - 2, top - 1), (right + 2, bottom + 1), 255, thickness)
    else:
        x = random.choice((left, right))
        cv2.line(plane, (x, top - 20), (x, bottom + 20), 255, thickness)


def scan(context: RenderContext, image: Grey, kind: str) -> Image:
    """Scan a line or take a screenshot of it: tint, blur, resampling, noise, thresholding, JPEG."""
    random, difficulty = context.random, context.difficulty
    if random.random() < 0.4:
        image = background.tint(random, image)
    if kind != "screen":
        image = camera.blur(random, image, 0.05 * difficulty)
    min_height = 16 if kind == "receipt" else 22
    height = round(random.triangular(min_height + (1 - difficulty) * 12, 70, 34))
    image = camera.resample(random, image, height)
    image = camera.add_noise(random, context.noise, image, 26 * difficulty)
    if (kind == "book" and random.random() < 0.55) or (kind != "screen" and random.random() < 0.12):
        return camera.binarise(random, image)
    if random.random() < 0.12:
        image = camera.sharpen(image, random.uniform(0.4, 1.5))
    if random.random() < 0.55:
        image = camera.compress_jpeg(image, random.randint(20, 95))
    return image

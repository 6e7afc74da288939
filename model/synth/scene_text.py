"""Signs, posters, labels and covers: a word on a wall, and the camera that took it."""

import math
from random import Random

import cv2
import numpy as np
from PIL.ImageFont import FreeTypeFont

from linewise.model.synth import background, camera, glyphs
from linewise.model.synth.background import Grey, Plane
from linewise.model.synth.camera import Picture
from linewise.model.synth.sources import corpus
from linewise.model.synth.sources.fonts import Face


def picture(random: Random, noise: np.random.Generator, hardness: float, face: Face, written: str) -> Picture:
    """A photo, uint8 `(H, W)` or `(H, W, 3)`, of a sign that says `written` in `face`; `hardness` is in [0, 1]."""
    plane, box = _set(random, noise, hardness, face, written)
    image = painted(random, noise, plane, hardness)
    strength = random.choice((0.0, 0.2, 0.5, 1.0 * hardness, 2.0 * hardness, 3.0 * hardness))
    image, corners = camera.view(random, image, box, strength)
    image = background.crop(random, image, corners, 0.09)
    return photographed(random, noise, image, hardness)


def _set(
    random: Random, noise: np.random.Generator, hardness: float, face: Face, written: str
) -> tuple[Grey, tuple[int, int, int, int]]:
    """The word's ink on an empty plane with room around it, and the box about the word."""
    size = random.choice((28, 34, 40, 48))
    font = glyphs.load(face.path, size)
    tracking = random.choice((0.0, 0.0, 0.0, random.gauss(0.03, 0.05), random.uniform(0, 0.4) ** 2))
    if random.random() < 0.04:  # letters far apart on a long front
        tracking = random.uniform(0.2, 1.0)
    line = glyphs.draw(random, font, written, glyphs.Setting(tracking=max(tracking, -0.06)))
    if written.isupper() and len(written) > 2 and random.random() < 0.06:
        large = glyphs.load(face.path, round(size * random.uniform(1.2, 1.5)))
        first = glyphs.draw(random, large, written[0], glyphs.Setting())
        rest = glyphs.draw(random, font, written[1:], glyphs.Setting(tracking=max(tracking, 0.0)))
        line = glyphs.beside(first, rest, round(size * (0.04 + max(tracking, 0.0))))
    if random.random() < 0.18 * hardness and len(written) > 2:
        line = glyphs.bend(random, line, random.uniform(0.1, 0.8))
    mask = line.mask
    if random.random() < 0.15:
        mask = glyphs.shear(mask, random.uniform(-0.35, 0.45))
    if random.random() < 0.1 * hardness:
        mask = glyphs.wear(random, noise, mask, size)
    if random.random() < 0.35:  # signs are often set wider or narrower than their face
        width = max(4, round(mask.shape[1] * math.exp(random.gauss(0, 0.3))))
        mask = np.asarray(cv2.resize(mask, (width, mask.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
    height, width = mask.shape
    pad = round(height * 0.6) + 4
    box = (pad, pad, pad + width, pad + height)
    plane = np.zeros((height + 2 * pad, width + 2 * pad), np.uint8)
    plane[pad : pad + height, pad : pad + width] = mask
    if random.random() < 0.35:
        box = _neighbours(random, font, face, plane, box)
    return plane, box


def _neighbours(
    random: Random, font: FreeTypeFont, face: Face, plane: Grey, box: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Another word's ink above, below or beside `box`, drawn into the plane.

    Returns the box that an annotator would have drawn: on the neighbour's side it is sometimes
    so wide that the rim of the next word stands in the picture, which nobody counts as text.
    """
    other = corpus.restricted(corpus.scene_word(random), face.characters)
    if not other or not other.strip():
        return box
    mask = glyphs.draw(random, font, other.strip(), glyphs.Setting()).mask
    left, top, right, bottom = box
    height = bottom - top
    if random.random() < 0.5:
        gap = round(height * random.uniform(0.03, 0.3))
        rim = round(gap + height * random.uniform(0.0, 0.15)) if random.random() < 0.35 else 0
        if random.random() < 0.5:
            background.paste(plane, mask, left + random.randint(-20, 20), top - gap - mask.shape[0])
            return left, top - rim, right, bottom
        background.paste(plane, mask, left + random.randint(-20, 20), bottom + gap)
        return left, top, right, bottom + rim
    gap = round(height * random.uniform(0.22, 0.5))
    rim = round(height * random.choice((0.0, random.uniform(0.0, 0.12), random.uniform(0.0, 0.3))))
    if random.random() < 0.6:
        background.paste(plane, mask, right + gap, bottom - mask.shape[0])
        return left, top, right + gap + rim, bottom
    background.paste(plane, mask, left - gap - mask.shape[1], bottom - mask.shape[0])
    return left - gap - rim, top, right, bottom


def painted(random: Random, noise: np.random.Generator, plane: Grey, hardness: float) -> Picture:
    """A sign: ground, texture, gradient, and letters with outline, shadow, sides, relief or two colours."""
    wall, letters = background.colours(random)
    contrast = float(np.abs(wall - letters).mean())
    shape = (plane.shape[0], plane.shape[1])
    canvas = np.broadcast_to(wall, (*shape, 3)).copy()
    if random.random() < 0.5 * hardness:
        texture = background.field(random, noise, shape, random.choice((2, 3, 6, 16)))
        canvas += (texture * min(60.0, contrast * random.uniform(0.05, 0.45)))[..., None]
    grain = random.random() < 0.09 * hardness  # stone, asphalt, rough paint
    if grain:
        canvas += _grain(random, noise, shape)[..., None] * contrast * random.uniform(0.1, 0.4)
    if random.random() < 0.1 * hardness:
        _courses(random, canvas, contrast)
    if random.random() < 0.2:
        _panels(random, canvas, wall, letters)
    alpha: Plane = plane.astype(np.float32)[..., None] / np.float32(255)
    reach = max(1, round(shape[0] * random.uniform(0.015, 0.04)))
    if random.random() < 0.16:  # shadow, sharp under the sun or soft
        away = random.choice((-1, 1)) * random.randint(1, 1 + 2 * reach)
        moved = _moved(alpha, random.randint(-2, 1 + 2 * reach), away)
        if random.random() < 0.4:
            soft = cv2.GaussianBlur(moved, (0, 0), random.uniform(0.5, 1.5) * reach)
            moved = np.asarray(soft, np.float32)[..., None]
        dark = 255.0 if letters.mean() < 40 and random.random() < 0.3 else random.uniform(0.0, 40.0)
        canvas += moved * (dark - canvas) * random.uniform(0.3, 0.9)
    effect = random.random()
    if effect < 0.12:  # outline
        rim = cv2.dilate(alpha, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))[..., None]
        canvas += rim * (background.paint(random, random.uniform(0, 255)) - canvas)
        if random.random() < 0.3:
            letters = wall
    elif effect < 0.17:  # glow
        halo = cv2.GaussianBlur(alpha, (0, 0), reach * 2.5)[..., None]
        canvas += halo * (letters - canvas) * random.uniform(0.2, 0.6)
    elif effect < 0.36:  # letters that stand out from a wall, which may be of their colour
        canvas, letters = _standing(random, canvas, alpha, wall, letters, reach)
    inner: Plane | background.Colour = letters
    if random.random() < 0.2:  # letters with a gradient or two colours
        inner = letters + (background.field(random, noise, shape, 2) * min(50.0, contrast * 0.4))[..., None]
    elif random.random() < 0.05 and shape[1] > 2 * shape[0]:  # a word of two colours
        inner = np.broadcast_to(letters, (*shape, 3)).copy()
        inner[:, random.randrange(shape[1]) :] = background.paint(random, float(letters.mean()))
    if grain and random.random() < 0.5:
        inner = inner + _grain(random, noise, shape)[..., None] * contrast * random.uniform(0.1, 0.3)
    canvas += alpha * (inner - canvas)
    if effect > 0.95:  # relief: only the edges differ
        edges = cv2.filter2D(alpha, -1, np.array([[1, 1, 0], [1, 0, -1], [0, -1, -1]], np.float32))
        canvas = wall + (edges * random.choice((-1, 1)) * random.uniform(30, 80))[..., None]
    if random.random() < 0.15 * hardness:  # glare or shade across everything
        light = background.field(random, noise, shape, 2) - 0.2
        canvas += (light * min(70.0, contrast * random.uniform(0.3, 0.9)))[..., None]
    if random.random() < 0.06 * hardness:  # a lamp in a shiny surface, letters drowning towards its middle
        canvas += _lamp(random, shape)[..., None]
    if random.random() < 0.4:  # daylight, lamps and how a camera balances them
        canvas *= np.array([random.uniform(0.8, 1.05) for _ in range(3)], np.float32)
    image = np.asarray(np.clip(canvas, 0, 255), np.uint8)
    return camera.greyed(image) if random.random() < 0.15 else image


def _grain(random: Random, noise: np.random.Generator, shape: tuple[int, int]) -> Plane:
    """Fine roughness, grains of one to four pixels, of spread 1."""
    size = random.uniform(1, 4)
    coarse = noise.standard_normal((round(shape[0] / size) + 1, round(shape[1] / size) + 1), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def _lamp(random: Random, shape: tuple[int, int]) -> Plane:
    """The light of a lamp's reflection in grey levels, bright at some place and gone around it."""
    rows, columns = np.arange(shape[0], dtype=np.float32)[:, None], np.arange(shape[1], dtype=np.float32)[None]
    across, down = (shape[0] * random.uniform(0.3, 1.5) for _ in range(2))
    distance = ((columns - random.uniform(0, shape[1])) / across) ** 2 + (
        (rows - random.uniform(0, shape[0])) / down
    ) ** 2
    return np.asarray(random.uniform(80, 350) * np.exp(-distance), np.float32)


def _standing(
    random: Random, canvas: Plane, alpha: Plane, wall: background.Colour, letters: background.Colour, reach: int
) -> tuple[Plane, background.Colour]:
    """Sides of letters that stand out from their wall, and the colour of their faces."""
    down, right = random.choice(((1, 1), (1, -1), (1, 0), (-1, 1), (0, 1), (0, -1)))
    sides = alpha
    for step in range(1, reach * random.choice((1, 1, 2, 3)) + 1):
        sides = np.maximum(sides, _moved(alpha, down * step, right * step))
    if random.random() < 0.5:  # the same paint in the shade, or in the light
        shade = letters * random.choice((random.uniform(0.15, 0.7), random.uniform(1.2, 1.6)))
    else:
        shade = background.paint(random, random.uniform(0, 255))
    canvas += sides * (shade - canvas)
    if random.random() < 0.25:
        letters = wall + random.uniform(-20, 20)
    if random.random() < 0.2:  # a light edge around the face
        rim = cv2.dilate(alpha, np.ones((3, 3), np.uint8))[..., None]
        canvas += rim * (background.paint(random, random.uniform(150, 255)) - canvas)
    return canvas, letters


def _moved(alpha: Plane, down: int, right: int) -> Plane:
    return np.roll(alpha, (down, right), (0, 1))


def _courses(random: Random, canvas: Plane, contrast: float) -> None:
    """Stripes, planks, shutters, or bricks in bond."""
    height, width = canvas.shape[:2]
    period = random.uniform(6, 40)
    strength = contrast * random.uniform(0.1, 0.35)
    if random.random() < 0.5:
        axis = np.arange(height if random.random() < 0.7 else width, dtype=np.float32)
        wave = np.sign(np.sin(axis * 2 * np.pi / period)) * strength
        canvas += wave[:, None, None] if axis.size == height else wave[None, :, None]
        return
    joint = random.choice((-1, 1)) * strength * 2
    thick = max(1, round(period * 0.12))
    for row, y in enumerate(np.arange(random.uniform(0, period), height, period)):
        canvas[int(y) : int(y) + thick] += joint
        for x in np.arange((row % 2) * period + random.uniform(0, 2), width, 2 * period):
            canvas[int(y) : int(y + period), int(x) : int(x) + thick] += joint


def _panels(random: Random, canvas: Plane, wall: background.Colour, letters: background.Colour) -> None:
    """Edges that are not letters: two-coloured grounds, a sign's frame, bars beside or behind the word."""
    height, width = canvas.shape[:2]
    # On the wall's side of the letters, so that the word stays legible on every panel.
    share = random.uniform(-1.0, -0.2) if random.random() < 0.4 else random.uniform(0.15, 0.5)
    level = (wall + (letters - wall) * share).tolist()
    kind = random.random()
    if kind < 0.4:  # an edge through the ground
        x, lean = random.randrange(width), random.gauss(0, 0.5) * height
        corners = np.array([[x, 0], [width, 0], [width, height], [x + lean, height]], np.int32)
        cv2.fillPoly(canvas, [corners], level)
    elif kind < 0.65:  # a horizon
        y = random.randrange(height)
        lean = random.gauss(0, 0.06) * width
        cv2.fillPoly(canvas, [np.array([[0, y], [width, y + lean], [width, height], [0, height]], np.int32)], level)
    elif kind < 0.85:  # a frame or a plate around the word
        inset = round(height * random.uniform(0.12, 0.3))
        cv2.rectangle(canvas, (inset, inset), (width - inset, height - inset), level, random.choice((1, 2, 3, 5, -1)))
    else:  # bars, posts and cables
        for _ in range(random.randint(1, 3)):
            start = (random.randrange(width), 0) if random.random() < 0.6 else (0, random.randrange(height))
            end = (random.randrange(width), height) if start[1] == 0 else (width, random.randrange(height))
            cv2.line(canvas, start, end, level, random.randint(1, max(2, height // 12)))


def photographed(random: Random, noise: np.random.Generator, image: Picture, hardness: float) -> Picture:
    """A word as a phone or a street camera delivers it."""
    image = camera.blur(random, image, 0.1 * hardness)
    height = round(math.exp(random.uniform(math.log(11 + 14 * (1 - hardness)), math.log(60))))
    image = camera.resample(random, image, height)
    image = camera.noise(random, noise, image, 22 * hardness)
    if random.random() < 0.12:
        image = camera.sharpen(image, random.uniform(0.4, 1.5))
    if random.random() < 0.7:
        image = camera.jpeg(image, random.randint(95 - round(65 * hardness), 95))
    return image


def empty(random: Random, noise: np.random.Generator) -> Grey:
    """A picture without text: flat, shaded, textured, ruled or noisy."""
    shape = (random.randint(16, 60), random.randint(16, 200))
    canvas = np.full(shape, random.uniform(0, 255), np.float32)
    canvas += background.field(random, noise, shape, random.choice((2, 4, 12))) * random.choice((0, 10, 60))
    image = np.asarray(np.clip(canvas, 0, 255), np.uint8)
    if random.random() < 0.5:
        image = background.tinted(random, image)
    if random.random() < 0.3:
        cv2.line(
            image,
            (0, random.randrange(shape[0])),
            (shape[1], random.randrange(shape[0])),
            [random.randrange(256)] * 3,
            random.randint(1, 3),
        )
    return camera.noise(random, noise, image, 25)

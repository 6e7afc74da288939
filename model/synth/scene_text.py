"""Scene text: words on signs, posters, labels and covers, photographed by a camera."""

import math
from dataclasses import dataclass, replace
from random import Random

import cv2
import numpy as np
from PIL.ImageFont import FreeTypeFont

from linewise.model.synth import background, camera, glyphs, spacing
from linewise.model.synth.background import Colour, Grey, Plane
from linewise.model.synth.camera import Box, Image, RenderContext
from linewise.model.synth.sources import corpus
from linewise.model.synth.sources.fonts import Face


def render(context: RenderContext, face: Face, text: str) -> Image:
    """Render a photo of a sign that says `text` in `face`, uint8 `(H, W)` or `(H, W, 3)`."""
    random, difficulty = context.random, context.difficulty
    plane, box = spacing.add_margins(random, *_draw_word(context, face, text))
    image = paint(context, plane)
    strength = random.choice((0.0, 0.2, 0.5, 1.0 * difficulty, 2.0 * difficulty, 3.0 * difficulty))
    image, corners = camera.warp_view(random, image, box, strength)
    image = background.crop(random, image, corners, 0.09)
    return photograph(context, image)


def _draw_word(context: RenderContext, face: Face, text: str) -> tuple[Grey, Box]:
    """Draw the ink of the word on a plane with a margin; returns the plane and the box to crop."""
    random, difficulty = context.random, context.difficulty
    size = random.choice((28, 34, 40, 48))
    font = glyphs.load_font(face.path, size)
    tracking = random.choice((0.0, 0.0, 0.0, random.gauss(0.03, 0.05), random.uniform(0, 0.4) ** 2))
    if random.random() < 0.04:  # widely spaced letters of a shop front
        tracking = random.uniform(0.2, 1.0)
    line = glyphs.draw_line(random, font, text, glyphs.Typesetting(tracking=max(tracking, -0.06)))
    if text.isupper() and len(text) > 2 and random.random() < 0.06:
        initial_font = glyphs.load_font(face.path, round(size * random.uniform(1.2, 1.5)))
        initial = glyphs.draw_line(random, initial_font, text[0], glyphs.Typesetting())
        rest = glyphs.draw_line(random, font, text[1:], glyphs.Typesetting(tracking=max(tracking, 0.0)))
        line = glyphs.beside(initial, rest, round(size * (0.04 + max(tracking, 0.0))))
    if random.random() < 0.18 * difficulty and len(text) > 2:
        line = glyphs.bend(random, line, random.uniform(0.1, 0.8))
    mask = line.mask
    if random.random() < 0.15:
        mask = glyphs.shear(mask, random.uniform(-0.35, 0.45))
    if random.random() < 0.1 * difficulty:
        mask = glyphs.wear(random, context.noise, mask, size)
    if random.random() < 0.35:  # signs are often wider or narrower than their face
        width = max(4, round(mask.shape[1] * math.exp(random.gauss(0, 0.3))))
        mask = np.asarray(cv2.resize(mask, (width, mask.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
    height, width = mask.shape
    pad = round(height * 0.6) + 4
    box = (pad, pad, pad + width, pad + height)
    plane = np.pad(mask, pad)
    if random.random() < 0.35:
        box = _add_neighbour(random, font, face, plane, box)
    return plane, box


def _add_neighbour(random: Random, font: FreeTypeFont, face: Face, plane: Grey, box: Box) -> Box:
    """Draw another word above, below or beside `box` in place; returns the box to crop.

    The crop sometimes includes the edge of the neighbour, as annotated boxes do; the transcript does not.
    """
    text = corpus.fit_to_characters(corpus.scene_word(random), face.characters)
    if not text or not text.strip():
        return box
    mask = glyphs.draw_line(random, font, text.strip(), glyphs.Typesetting()).mask
    left, top, right, bottom = box
    height = bottom - top
    if random.random() < 0.5:
        gap = round(height * random.uniform(0.03, 0.3))
        overlap = round(gap + height * random.uniform(0.0, 0.15)) if random.random() < 0.35 else 0
        if random.random() < 0.5:
            background.paste(plane, mask, left + random.randint(-20, 20), top - gap - mask.shape[0])
            return left, top - overlap, right, bottom
        background.paste(plane, mask, left + random.randint(-20, 20), bottom + gap)
        return left, top, right, bottom + overlap
    gap = round(height * random.uniform(0.22, 0.5))
    overlap = round(height * random.choice((0.0, random.uniform(0.0, 0.12), random.uniform(0.0, 0.3))))
    if random.random() < 0.6:
        background.paste(plane, mask, right + gap, bottom - mask.shape[0])
        return left, top, right + gap + overlap, bottom
    background.paste(plane, mask, left - gap - mask.shape[1], bottom - mask.shape[0])
    return left - gap - overlap, top, right, bottom


@dataclass(frozen=True)
class _Lettering:
    """Letters to paint on a sign.

    Attributes:
        alpha: coverage of the letters in [0, 1], float32 `(H, W, 1)`.
        base: colour of the background.
        colour: colour of the letters.
        contrast: mean difference of the two colours in grey levels.
        reach: extent of shadows and outlines in pixels.
        rough: whether background and letters are rough, as stone, asphalt or coarse paint.
    """

    alpha: Plane
    base: Colour
    colour: Colour
    contrast: float
    reach: int
    rough: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.alpha.shape[0], self.alpha.shape[1]


def paint(context: RenderContext, plane: Grey) -> Image:
    """Paint a sign: background, texture, and letters with shadow, outline, sides, relief or two colours.

    `plane` is the ink of the letters, uint8 `(H, W)`. The result is RGB or, sometimes, grey.
    """
    random = context.random
    base, colour = background.random_colour_pair(random)
    contrast = float(np.abs(base - colour).mean())
    shape = (plane.shape[0], plane.shape[1])
    canvas, rough = _paint_background(context, shape, base, colour)
    alpha: Plane = plane.astype(np.float32)[..., None] / np.float32(255)
    reach = max(1, round(shape[0] * random.uniform(0.015, 0.04)))
    letters = _Lettering(alpha, base, colour, contrast, reach, rough)
    if random.random() < 0.16:
        _add_shadow(random, canvas, letters)
    effect = random.random()
    letters = _add_effect(random, effect, canvas, letters)
    canvas += alpha * (_choose_fill(context, letters) - canvas)
    if effect > 0.95:  # relief: only the edges differ
        edges = cv2.filter2D(alpha, -1, np.array([[1, 1, 0], [1, 0, -1], [0, -1, -1]], np.float32))
        canvas = base + (edges * random.choice((-1, 1)) * random.uniform(30, 80))[..., None]
    _add_light(context, canvas, contrast)
    image = np.asarray(np.clip(canvas, 0, 255), np.uint8)
    return camera.to_grey(image) if random.random() < 0.15 else image


def _paint_background(
    context: RenderContext, shape: tuple[int, int], base: Colour, letters: Colour
) -> tuple[Plane, bool]:
    """Paint the background, float32 `(H, W, 3)`; the flag says whether its surface is rough."""
    random, noise, difficulty = context.random, context.noise, context.difficulty
    contrast = float(np.abs(base - letters).mean())
    canvas = np.broadcast_to(base, (*shape, 3)).copy()
    if random.random() < 0.5 * difficulty:
        texture = background.smooth_noise(noise, shape, random.choice((2, 3, 6, 16)))
        canvas += (texture * min(60.0, contrast * random.uniform(0.05, 0.45)))[..., None]
    rough = random.random() < 0.09 * difficulty
    if rough:
        canvas += background.rough_noise(random, noise, shape)[..., None] * contrast * random.uniform(0.1, 0.4)
    if random.random() < 0.1 * difficulty:
        background.add_courses(random, canvas, contrast)
    if random.random() < 0.2:
        background.add_panels(random, canvas, base, letters)
    return canvas, rough


def _add_shadow(random: Random, canvas: Plane, letters: _Lettering) -> None:
    """Add the shadow of the letters, hard or soft, to the canvas in place."""
    reach = letters.reach
    right = random.choice((-1, 1)) * random.randint(1, 1 + 2 * reach)
    shadow = _shift(letters.alpha, random.randint(-2, 1 + 2 * reach), right)
    if random.random() < 0.4:
        soft = cv2.GaussianBlur(shadow, (0, 0), random.uniform(0.5, 1.5) * reach)
        shadow = np.asarray(soft, np.float32)[..., None]
    level = 255.0 if letters.colour.mean() < 40 and random.random() < 0.3 else random.uniform(0.0, 40.0)
    canvas += shadow * (level - canvas) * random.uniform(0.3, 0.9)


def _add_effect(random: Random, effect: float, canvas: Plane, letters: _Lettering) -> _Lettering:
    """Add an outline, a glow or sides to the canvas in place.

    `effect` in [0, 1) selects among them and none. Returns the letters with the colour of their faces.
    """
    alpha, reach = letters.alpha, letters.reach
    if effect < 0.12:
        outline = cv2.dilate(alpha, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))[..., None]
        canvas += outline * (background.random_colour(random, random.uniform(0, 255)) - canvas)
        return replace(letters, colour=letters.base) if random.random() < 0.3 else letters
    if effect < 0.17:
        glow = cv2.GaussianBlur(alpha, (0, 0), reach * 2.5)[..., None]
        canvas += glow * (letters.colour - canvas) * random.uniform(0.2, 0.6)
    elif effect < 0.36:
        return _add_sides(random, canvas, letters)
    return letters


def _add_sides(random: Random, canvas: Plane, letters: _Lettering) -> _Lettering:
    """Add the sides of raised letters to the canvas in place.

    Returns the letters with the colour of their faces, which may be close to the background's.
    """
    alpha = letters.alpha
    down, right = random.choice(((1, 1), (1, -1), (1, 0), (-1, 1), (0, 1), (0, -1)))
    sides = alpha
    for step in range(1, letters.reach * random.choice((1, 1, 2, 3)) + 1):
        sides = np.maximum(sides, _shift(alpha, down * step, right * step))
    if random.random() < 0.5:  # the colour of the letters, in shade or in light
        colour = letters.colour * random.choice((random.uniform(0.15, 0.7), random.uniform(1.2, 1.6)))
    else:
        colour = background.random_colour(random, random.uniform(0, 255))
    canvas += sides * (colour - canvas)
    if random.random() < 0.25:
        letters = replace(letters, colour=letters.base + random.uniform(-20, 20))
    if random.random() < 0.2:  # a light edge around the faces
        edge = cv2.dilate(alpha, np.ones((3, 3), np.uint8))[..., None]
        canvas += edge * (background.random_colour(random, random.uniform(150, 255)) - canvas)
    return letters


def _shift(alpha: Plane, down: int, right: int) -> Plane:
    """Shift the letters by pixels, wrapping around at the edges."""
    return np.roll(alpha, (down, right), (0, 1))


def _choose_fill(context: RenderContext, letters: _Lettering) -> Plane | Colour:
    """Choose the fill of the letters: one colour, a gradient, two colours or a rough surface."""
    random, noise, shape = context.random, context.noise, letters.shape
    fill: Plane | Colour = letters.colour
    if random.random() < 0.2:
        gradient = background.smooth_noise(noise, shape, 2)
        fill = letters.colour + (gradient * min(50.0, letters.contrast * 0.4))[..., None]
    elif random.random() < 0.05 and shape[1] > 2 * shape[0]:
        fill = np.broadcast_to(letters.colour, (*shape, 3)).copy()
        fill[:, random.randrange(shape[1]) :] = background.random_colour(random, float(letters.colour.mean()))
    if letters.rough and random.random() < 0.5:
        roughness = background.rough_noise(random, noise, shape)[..., None]
        fill = fill + roughness * letters.contrast * random.uniform(0.1, 0.3)
    return fill


def _add_light(context: RenderContext, canvas: Plane, contrast: float) -> None:
    """Add glare, shade, a lamp's reflection and a colour cast to the canvas in place."""
    random, difficulty = context.random, context.difficulty
    shape = (canvas.shape[0], canvas.shape[1])
    if random.random() < 0.15 * difficulty:  # glare or shade
        light = background.smooth_noise(context.noise, shape, 2) - 0.2
        canvas += (light * min(70.0, contrast * random.uniform(0.3, 0.9)))[..., None]
    if random.random() < 0.06 * difficulty:
        canvas += background.lamp_reflection(random, shape)[..., None]
    if random.random() < 0.4:  # colour of the light and white balance
        canvas *= np.array([random.uniform(0.8, 1.05) for _ in range(3)], np.float32)


def photograph(context: RenderContext, image: Image) -> Image:
    """Photograph a word as a phone or a street camera does: blur, resampling, noise, sharpening, JPEG."""
    random, difficulty = context.random, context.difficulty
    image = camera.blur(random, image, 0.1 * difficulty)
    height = round(math.exp(random.uniform(math.log(11 + 14 * (1 - difficulty)), math.log(60))))
    image = camera.resample(random, image, height)
    image = camera.add_noise(random, context.noise, image, 22 * difficulty)
    if random.random() < 0.12:
        image = camera.sharpen(image, random.uniform(0.4, 1.5))
    if random.random() < 0.7:
        image = camera.compress_jpeg(image, random.randint(95 - round(65 * difficulty), 95))
    return image


def render_textless(random: Random, noise: np.random.Generator) -> Image:
    """Render an image without text: flat, shaded, textured, ruled or noisy."""
    shape = (random.randint(16, 60), random.randint(16, 200))
    canvas = np.full(shape, random.uniform(0, 255), np.float32)
    canvas += background.smooth_noise(noise, shape, random.choice((2, 4, 12))) * random.choice((0, 10, 60))
    image = np.asarray(np.clip(canvas, 0, 255), np.uint8)
    if random.random() < 0.5:
        image = background.tint(random, image)
    if random.random() < 0.3:
        start, end = (0, random.randrange(shape[0])), (shape[1], random.randrange(shape[0]))
        cv2.line(image, start, end, [random.randrange(256)] * 3, random.randint(1, 3))
    return camera.add_noise(random, noise, image, 25)

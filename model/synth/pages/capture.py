"""Capture a page by a scanner, a screenshot or a phone, and track its lines."""

from collections.abc import Sequence
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.synth import background, camera, glyphs
from linewise.model.synth.background import Grey
from linewise.model.synth.camera import Box, RenderContext

Quad = NDArray[np.float32]  # corners `(4, 2)` in pixels, clockwise from the top left

MAX_IMAGE_SIDE_PX = 4000


def capture_page(
    random: Random, noise: np.random.Generator, plane: Grey, boxes: Sequence[Box], screen: bool
) -> tuple[Grey, list[Quad]]:
    """Capture a page as a grey image, uint8 `(H, W)`.

    `plane` is the ink of the page, 255 = full ink, and `boxes` are its lines. With `screen`, the page has any grey
    levels and mostly is a screenshot. Returns the image and the quad of each line in it.
    """
    context = RenderContext(random, noise, difficulty=random.random() ** 0.8)
    difficulty = context.difficulty
    image = _print_page(context, plane, screen)
    quads = [np.array([[b[0], b[1]], [b[2], b[1]], [b[2], b[3]], [b[0], b[3]]], np.float32) for b in boxes]
    image, quads = _place_on_surface(context, image, quads, screen)
    if not screen:
        image = camera.blur(random, image, 0.0025 * difficulty)
        image = camera.add_noise(random, noise, image, 22 * difficulty)
        if random.random() < 0.2:
            image = camera.binarise(random, image)
    if random.random() < 0.6:
        image = camera.compress_jpeg(image, random.randint(30, 95))
    return image, quads


def _print_page(context: RenderContext, plane: Grey, screen: bool) -> Grey:
    """Print the ink on paper or show it on a screen."""
    random, noise = context.random, context.noise
    if random.random() < 0.25 * context.difficulty and not screen:
        plane = glyphs.wear(random, noise, plane, 16.0)
    if screen and random.random() < 0.7:
        base, letters = background.random_grey_levels(random)
    else:
        base = random.choice((255.0, 245.0, random.uniform(170, 255), random.uniform(120, 235)))
        letters = base * random.uniform(0.0, 0.6 if random.random() < 0.4 else 0.3)
    canvas = np.full(plane.shape, base, np.float32)
    if random.random() < 0.5:
        shading = background.smooth_noise(noise, (plane.shape[0], plane.shape[1]), random.choice((2, 3, 8)))
        canvas += shading * random.uniform(2, 25)
    canvas += plane.astype(np.float32) / 255 * (letters - canvas)
    return np.asarray(np.clip(canvas, 0, 255), np.uint8)


def _place_on_surface(context: RenderContext, image: Grey, quads: list[Quad], screen: bool) -> tuple[Grey, list[Quad]]:
    """Place the page on a desk, a scanner lid or a larger page, rotated and tilted."""
    random = context.random
    if screen and random.random() < 0.6:
        return image, quads
    scene, offset = _draw_surface(context, image)
    matrix, size = _choose_perspective(context, (scene.shape[0], scene.shape[1]))
    scene = np.asarray(
        cv2.warpPerspective(scene, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
    if random.random() < 0.3 * context.difficulty:  # a shadow
        noise = background.smooth_noise(context.noise, (scene.shape[0], scene.shape[1]), 2)
        scene = np.asarray(scene * np.clip(noise + 0.6, 0.35, 1), np.uint8)
    moved = [quad + np.array(offset, np.float32) for quad in quads]
    return scene, [cv2.perspectiveTransform(quad[None], matrix)[0].astype(np.float32) for quad in moved]


def _draw_surface(context: RenderContext, image: Grey) -> tuple[Grey, tuple[int, int]]:
    """Draw a larger surface with the page on it; returns it and the page's left and top."""
    random = context.random
    height, width = image.shape
    above, below, left, right = (
        round(side * random.choice((0, 0.02, 0.1, random.uniform(0, 0.7)))) for side in (height, height, width, width)
    )
    shape = (height + above + below, width + left + right)
    level = random.choice((255.0, float(image.max()), random.uniform(0, 255), 0.0))
    surface = np.full(shape, level, np.float32)
    if random.random() < 0.4:
        texture = background.smooth_noise(context.noise, shape, random.choice((3, 8, 20)))
        surface += texture * random.uniform(3, 50)
    scene = np.asarray(np.clip(surface, 0, 255), np.uint8)
    scene[above : above + height, left : left + width] = image
    return scene, (left, above)


def _choose_perspective(context: RenderContext, shape: tuple[int, int]) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Choose a rotation and a tilt of a scene.

    Returns the 3 x 3 matrix, and the width and height of the warped image in pixels.
    """
    random = context.random
    degrees = (0.0, random.gauss(0, 0.7), random.gauss(0, 3)) if random.random() < 0.9 else (random.gauss(0, 12),)
    angle = np.deg2rad(random.choice(degrees))
    tilt = random.choice((0.0, 0.0, 0.12 * context.difficulty))
    matrix = np.eye(3)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[2, :2] = (random.gauss(0, tilt) / shape[1], random.gauss(0, tilt) / shape[0])
    corners = np.array([[0, 0], [shape[1], 0], [shape[1], shape[0]], [0, shape[0]]], np.float32)
    moved = cv2.perspectiveTransform(corners[None], matrix)[0]
    low, high = moved.min(0), moved.max(0)
    shift = np.eye(3)
    shift[:2, 2] = -low
    size = (
        min(MAX_IMAGE_SIDE_PX, int(high[0] - low[0]) + 1),
        min(MAX_IMAGE_SIDE_PX, int(high[1] - low[1]) + 1),
    )
    return shift @ matrix, size

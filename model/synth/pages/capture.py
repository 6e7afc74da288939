"""A sheet on what it lies on, and the scanner, the screen or the phone that takes it."""

from collections.abc import Sequence
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.synth import background, camera, glyphs
from linewise.model.synth.background import Grey

Quad = NDArray[np.float32]


def shot(
    random: Random, noise: np.random.Generator, plane: Grey, boxes: Sequence[tuple[int, int, int, int]], screen: bool
) -> tuple[Grey, list[Quad]]:
    """The picture, grey uint8 `(H, W)`, of a sheet whose ink is `plane`, 255 = full ink.

    `boxes` are (left, top, right, bottom) of its lines in pixels; their corners in the picture come
    back with it, float32 `(4, 2)`. What is on a `screen` has any colours and is seldom photographed.
    """
    hardness = random.random() ** 0.8
    if random.random() < 0.25 * hardness and not screen:
        plane = glyphs.wear(random, noise, plane, 16.0)
    if screen and random.random() < 0.7:
        base, letters = background.levels(random)
    else:
        base = random.choice((255.0, 245.0, random.uniform(170, 255), random.uniform(120, 235)))
        letters = base * random.uniform(0.0, 0.6 if random.random() < 0.4 else 0.3)
    canvas = np.full(plane.shape, base, np.float32)
    if random.random() < 0.5:
        canvas += background.field(
            random, noise, (plane.shape[0], plane.shape[1]), random.choice((2, 3, 8))
        ) * random.uniform(2, 25)
    canvas += plane.astype(np.float32) / 255 * (letters - canvas)
    image = np.asarray(np.clip(canvas, 0, 255), np.uint8)
    quads = [np.array([[b[0], b[1]], [b[2], b[1]], [b[2], b[3]], [b[0], b[3]]], np.float32) for b in boxes]
    image, quads = _placed(random, noise, image, quads, hardness, screen)
    if not screen:
        image = camera.blur(random, image, 0.0025 * hardness)
        image = camera.noise(random, noise, image, 22 * hardness)
        if random.random() < 0.2:
            image = camera.binarise(random, image)
    if random.random() < 0.6:
        image = camera.jpeg(image, random.randint(30, 95))
    return image, quads


def _placed(random: Random, noise: np.random.Generator, image: Grey, quads: list[Quad], hardness: float,
            screen: bool) -> tuple[Grey, list[Quad]]:  # fmt: skip
    """The sheet on a desk, a scanner's lid or the rest of a large empty page; turned a little or tilted."""
    if screen and random.random() < 0.6:
        return image, quads
    height, width = image.shape
    above, below, left, right = (round(side * random.choice((0, 0.02, 0.1, random.uniform(0, 0.7))))
                                 for side in (height, height, width, width))  # fmt: skip
    shape = (height + above + below, width + left + right)
    level = random.choice((255.0, float(image.max()), random.uniform(0, 255), 0.0))
    desk = np.full(shape, level, np.float32)
    if random.random() < 0.4:
        desk += background.field(random, noise, shape, random.choice((3, 8, 20))) * random.uniform(3, 50)
    scene = np.asarray(np.clip(desk, 0, 255), np.uint8)
    scene[above : above + height, left : left + width] = image
    quads = [quad + np.array([left, above], np.float32) for quad in quads]
    angle = np.deg2rad(random.choice((0.0, random.gauss(0, 0.7), random.gauss(0, 3)) if random.random() < 0.9
                                     else (random.gauss(0, 12),)))  # fmt: skip
    bend = random.choice((0.0, 0.0, 0.12 * hardness))
    matrix = np.eye(3)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[2, :2] = (random.gauss(0, bend) / shape[1], random.gauss(0, bend) / shape[0])
    corners = np.array([[0, 0], [shape[1], 0], [shape[1], shape[0]], [0, shape[0]]], np.float32)
    moved = cv2.perspectiveTransform(corners[None], matrix)[0]
    low, high = moved.min(0), moved.max(0)
    shift = np.eye(3)
    shift[:2, 2] = -low
    matrix = shift @ matrix
    size = (min(4000, int(high[0] - low[0]) + 1), min(4000, int(high[1] - low[1]) + 1))
    scene = np.asarray(
        cv2.warpPerspective(scene, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
    if random.random() < 0.3 * hardness:  # a shadow across the desk
        dark = np.clip(background.field(random, noise, (scene.shape[0], scene.shape[1]), 2) + 0.6, 0.35, 1)
        scene = np.asarray(scene * dark, np.uint8)
    return scene, [cv2.perspectiveTransform(quad[None], matrix)[0].astype(np.float32) for quad in quads]

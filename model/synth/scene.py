"""Ink on a ground: signs, receipts, book pages, typescripts, screens, handwriting; one sample a number."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.ImageFont import FreeTypeFont

from model.synth import camera, handwriting, ink, text
from model.synth.fonts import BOOK, RECEIPT, TYPEWRITER, Face, by_family

Grey = NDArray[np.uint8]
Plane = NDArray[np.float32]

# Share of each kind of picture. Lines cost four to six times a word, so that they get about half of
# the training's time with a third of its samples.
KINDS = {"sign": 54, "receipt": 17, "book": 9, "typescript": 9, "screen": 5, "handwriting": 4, "nothing": 2}

SMALLEST_CONTRAST = 30  # grey levels between ink and ground, below which people do not read either


@dataclass(frozen=True)
class Sample:
    """A drawn picture, grey uint8 `(H, W)`, with what is written in it and its kind."""

    image: Grey
    text: str
    kind: str


class Renderer:
    """Draws samples by number: `sample(i)` is the same picture whenever it is drawn again.

    `easy_until` is the number of samples over which the pictures go from clean to as hard as they
    get; CTC leaves its plateau much sooner on clean words.
    """

    def __init__(
        self, faces: Sequence[Face], seed: int = 0, easy_until: int = 0, kinds: dict[str, int] | None = None
    ) -> None:
        self.seed = seed
        self.easy_until = easy_until
        self.kinds = kinds or KINDS
        self._digits = handwriting.find_digits()
        families = by_family(faces)
        self._pools = {
            "any": _weighted(families),
            "book": _weighted({n: f for n, f in families.items() if BOOK.search(f[0].name)} or families),
            "typewriter": _weighted({n: f for n, f in families.items() if TYPEWRITER.search(f[0].name)} or families),
            "receipt": _weighted({n: f for n, f in families.items() if RECEIPT.search(f[0].name)} or families),
        }

    def sample(self, index: int) -> Sample:
        """Sample number `index` of this seed."""
        random = Random(self.seed * 1_000_003 + index)
        noise = np.random.default_rng((self.seed, index))
        ease = max(0.0, 1 - index / self.easy_until) if self.easy_until else 0.0
        kind = random.choices(list(self.kinds), weights=list(self.kinds.values()))[0]
        if ease > 0.5 and kind not in ("sign", "nothing") and random.random() < ease:
            kind = "sign"
        hardness = 1 - 0.85 * ease
        # Mostly easy and seldom all at once: where blur, noise and faintness each reach their worst
        # independently, every third word is one that nobody can read, and the net learns to guess.
        hardness *= random.random() ** 0.8
        if kind == "handwriting" and not self._digits:
            kind = "sign"
        if kind == "nothing":
            return Sample(_empty(random, noise), "", kind)
        if kind == "sign":
            return self._sign(random, noise, hardness)
        if kind == "handwriting":
            return self._handwriting(random, noise, hardness)
        return self._line(random, noise, hardness, kind)

    def _face(self, random: Random, pool: str, wanted: Callable[[], str]) -> tuple[Face, str]:
        """A face, by family, and a text that it can write."""
        cumulative, families = self._pools[pool]
        written = wanted()
        for attempt in range(40):
            face = random.choice(random.choices(families, cum_weights=cumulative)[0])
            # In small capitals alone nobody could tell the case: each word begins with a large one.
            able = text.restricted(text.titled(written) if face.small_caps else written, face.characters)
            if able is not None and (able == written or face.small_caps or random.random() < 0.3):
                return face, able
            if attempt % 8 == 7:
                written = wanted()
        return face, "".join(c for c in "TEXT 1234" if c in face.characters + " ").strip()

    def _sign(self, random: Random, noise: np.random.Generator, hardness: float) -> Sample:
        face, written = self._face(random, "any", lambda: text.scene_word(random).strip() or "A")
        font = ink.load(face.path, random.choice((28, 34, 40, 48)))
        tracking = random.choice((0.0, 0.0, 0.0, random.gauss(0.03, 0.05), random.uniform(0, 0.4) ** 2))
        line = ink.draw(random, font, written, ink.Setting(tracking=max(tracking, -0.06)))
        if random.random() < 0.12 * hardness and len(written) > 2:
            line = ink.bend(random, line, random.uniform(0.1, 0.7))
        mask = line.mask
        if random.random() < 0.15:
            mask = ink.shear(mask, random.uniform(-0.35, 0.45))
        if random.random() < 0.1 * hardness:
            mask = ink.wear(random, noise, mask, font.size)
        if random.random() < 0.3:  # signs are often set wider or narrower than their face
            width = max(4, round(mask.shape[1] * math.exp(random.gauss(0, 0.25))))
            mask = np.asarray(cv2.resize(mask, (width, mask.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
        height, width = mask.shape
        pad = round(height * 0.6) + 4
        box = (pad, pad, pad + width, pad + height)
        plane = np.zeros((height + 2 * pad, width + 2 * pad), np.uint8)
        plane[pad : pad + height, pad : pad + width] = mask
        if random.random() < 0.25:
            box = self._neighbours(random, font, face, plane, box)
        image = _painted(random, noise, plane, hardness)
        strength = random.choice((0.0, 0.2, 0.5, 1.0 * hardness, 2.0 * hardness))
        image, corners = camera.view(random, image, box, strength)
        image = _crop(random, image, corners, 0.09)
        image = _photographed(random, noise, image, hardness)
        return Sample(image, written, "sign")

    def _neighbours(
        self, random: Random, font: FreeTypeFont, face: Face, plane: Grey, box: tuple[int, int, int, int]
    ) -> tuple[int, int, int, int]:
        """Another word's ink above, below or beside `box`, drawn into the plane.

        Returns the box that an annotator would have drawn: on the neighbour's side it is sometimes
        so wide that the rim of the next word stands in the picture, which nobody counts as text.
        """
        other = text.restricted(text.scene_word(random), face.characters)
        if not other or not other.strip():
            return box
        mask = ink.draw(random, font, other.strip(), ink.Setting()).mask
        left, top, right, bottom = box
        height = bottom - top
        if random.random() < 0.5:
            gap = round(height * random.uniform(0.05, 0.3))
            y = random.choice((top - gap - mask.shape[0], bottom + gap))
            _paste(plane, mask, left + random.randint(-20, 20), y)
            return box
        gap = round(height * random.uniform(0.22, 0.5))
        rim = round(height * random.choice((0.0, random.uniform(0.0, 0.12))))
        if random.random() < 0.6:
            _paste(plane, mask, right + gap, bottom - mask.shape[0])
            return left, top, right + gap + rim, bottom
        _paste(plane, mask, left - gap - mask.shape[1], bottom - mask.shape[0])
        return left - gap - rim, top, right, bottom

    def _handwriting(self, random: Random, noise: np.random.Generator, hardness: float) -> Sample:
        """One handwritten digit, or a row of them, on paper, on a form or white on black."""
        written = text.digits(random, 1, 1) if random.random() < 0.6 else text.digits(random, 2, 8)
        mask = handwriting.write(random, self._digits, written, random.randint(30, 44))
        height, width = mask.shape
        above, below, left, right = (round(height * random.uniform(0.02, 0.35)) for _ in range(4))
        plane = np.pad(mask, ((above, below), (left, right)))
        if random.random() < 0.1:
            _ruled(random, plane, (left, above, left + width, above + height))
        choice = random.random()
        if choice < 0.35:  # as digits are stored for experiments: nothing but ink, white on black
            image = camera.resample(random, plane, random.randint(20, 40))
            return Sample(camera.jpeg(image, random.randint(70, 98)), written, "handwriting")
        image = (
            _printed(random, noise, plane, "typescript") if choice < 0.8 else _painted(random, noise, plane, hardness)
        )
        return Sample(_photographed(random, noise, image, hardness), written, "handwriting")

    def _line(self, random: Random, noise: np.random.Generator, hardness: float, kind: str) -> Sample:
        setting, pool, write = _style(random, kind)
        face, written = self._face(random, pool, lambda: text.joined([write()]) or "1")
        if kind == "typescript" and not face.monospaced:
            setting = ink.Setting(**{**setting.__dict__, "monospaced": random.random() < 0.5})
        font = ink.load(face.path, random.choice((26, 30, 34, 40)))
        shown = ink.joined(font, written) if not setting.tracking and random.random() < 0.6 else written
        line = ink.draw(random, font, shown, setting)
        if kind == "receipt" and random.random() < 0.2:
            line = ink.Line(ink.dots(random, line.mask), line.baseline)
        stretch = random.choice((1.0, 1.0, random.uniform(0.72, 1.25)))
        plane, box = self._page(random, font, face, line, setting, kind, write)
        plane = np.asarray(
            cv2.resize(plane, (max(8, round(plane.shape[1] * stretch)), plane.shape[0]), interpolation=cv2.INTER_AREA),
            np.uint8,
        )
        box = (round(box[0] * stretch), box[1], round(box[2] * stretch), box[3])
        if random.random() < 0.45 * hardness:
            plane = ink.wear(random, noise, plane, font.size)
        if random.random() < 0.12:
            _ruled(random, plane, box)
        image = _printed(random, noise, plane, kind)
        tilt = hardness * random.choice((0.0, 0.05, 0.1, 0.2)) * min(1.0, 260 / max(1, box[2] - box[0]) + 0.25)
        image, corners = camera.view(random, image, box, tilt)
        image = _crop(random, image, corners, 0.02)
        return Sample(_scanned(random, noise, image, hardness, kind), written, kind)

    def _page(self, random: Random, font: FreeTypeFont, face: Face, line: ink.Line, setting: ink.Setting,
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
                other = text.restricted(text.joined([write()]), face.characters)
                if other:
                    near = ink.draw(random, font, other, setting)
                    mask = near.mask if near.mask.shape[1] > width * 0.6 else np.tile(near.mask, (1, 2))
                    _paste(
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


def _weighted(families: dict[str, list[Face]]) -> tuple[list[float], list[list[Face]]]:
    """Families with cumulative weights: the many novelty faces of one foundry, and capitals only, weigh less."""
    total, cumulative = 0.0, []
    for name, faces in families.items():
        total += 0.08 if name.endswith(" brk") else 0.4 if "a" not in faces[0].characters else 1.0
        cumulative.append(total)
    return cumulative, list(families.values())


def _style(random: Random, kind: str) -> tuple[ink.Setting, str, Callable[[], str]]:
    """How a kind of document is set, the pool of its faces, and what writes its lines."""
    length = max(4, round(random.triangular(4, 64, 22)))
    if kind == "typescript":
        tongue = random.choices(("de", "cs", "da", "en", "fr", "pl"), weights=(28, 30, 18, 14, 5, 5))[0]
        setting = ink.Setting(
            jitter=random.choice((0.0, 0.012, 0.025)), unevenness=random.choice((0.0, 0.3, 0.6)), word_space=1.0
        )
        return setting, "typewriter", lambda: text.prose(random, length, tongue)
    if kind == "book":
        spoken = random.choices(("en", "fr", "es", None), weights=(45, 20, 20, 15))[0]
        setting = ink.Setting(
            word_space=random.uniform(0.75, 2.0),
            thin=random.choice((0.0, 0.0, 0.15, 0.28)),
            tracking=random.choice((0.0, 0.0, 0.0, 0.02)),
        )
        short = random.choice((text.page_number, text.heading)) if random.random() < 0.04 else None
        return (
            setting,
            "any" if random.random() < 0.15 else "book",
            lambda: short(random) if short else text.prose(random, length, spoken),
        )
    if kind == "receipt":
        setting = ink.Setting(
            tracking=random.choice((0.0, 0.0, random.uniform(0.0, 0.15))), word_space=random.uniform(0.8, 1.7)
        )
        return setting, "receipt" if random.random() < 0.7 else "any", lambda: text.receipt_line(random)
    setting = ink.Setting(word_space=random.uniform(0.8, 1.4))
    return setting, "any", lambda: text.prose(random, length) if random.random() < 0.6 else text.receipt_line(random)


def _paste(plane: Grey, mask: Grey, x: int, y: int) -> None:
    """Ink into the plane with its top-left corner at (x, y), cut at the plane's edges."""
    top, left = max(0, y), max(0, x)
    part = mask[top - y : plane.shape[0] - y, left - x : plane.shape[1] - x]
    if part.size and top < plane.shape[0] and left < plane.shape[1]:
        window = plane[top : top + part.shape[0], left : left + part.shape[1]]
        np.maximum(window, part, out=window)


def _field(random: Random, noise: np.random.Generator, shape: tuple[int, int], cells: int) -> Plane:
    """A smooth random field in about [-1, 1] with `cells` bumps along the shorter side."""
    rows = max(2, cells)
    columns = max(2, min(64, round(cells * shape[1] / shape[0])))
    coarse = noise.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def _levels(random: Random) -> tuple[float, float]:
    """Grey levels of ground and ink, either way round, often close to each other."""
    while True:
        ground, letters = random.uniform(0, 255), random.uniform(0, 255)
        if random.random() < 0.35:
            ground, letters = random.choice(((245, 20), (15, 235), (200, 40), (60, 220)))
        if abs(ground - letters) >= SMALLEST_CONTRAST + 70 * random.random() ** 2:
            return ground, letters


def _painted(random: Random, noise: np.random.Generator, plane: Grey, hardness: float) -> Grey:
    """A sign: ground, texture, gradient, and letters with outline, shadow, relief or two colours."""
    ground, letters = _levels(random)
    contrast = abs(ground - letters)
    shape = (plane.shape[0], plane.shape[1])
    canvas = np.full(shape, ground, np.float32)
    if random.random() < 0.5 * hardness:
        canvas += _field(random, noise, shape, random.choice((2, 3, 6, 16))) * min(
            60.0, contrast * random.uniform(0.05, 0.45)
        )
    if random.random() < 0.07 * hardness:  # stripes, tiles, planks
        period = random.uniform(6, 40)
        axis = np.arange(shape[random.randrange(2)], dtype=np.float32)
        wave = np.sign(np.sin(axis * 2 * np.pi / period)) * contrast * 0.2
        canvas += wave[None, :] if axis.size == shape[1] else wave[:, None]
    alpha = plane.astype(np.float32) / 255
    effect = random.random()
    reach = max(1, round(shape[0] * random.uniform(0.015, 0.04)))
    if effect < 0.12:  # shadow
        moved = np.roll(alpha, (random.randint(-2, 4), random.choice((-3, -2, 2, 3, 4))), (0, 1))
        canvas += moved * ((0.0 if letters > 128 else 255.0) - canvas) * random.uniform(0.3, 0.9)
    elif effect < 0.22:  # outline
        rim = cv2.dilate(alpha, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
        canvas += rim * (random.uniform(0, 255) - canvas)
        if random.random() < 0.4:
            letters = ground
    elif effect < 0.27:  # glow
        halo = cv2.GaussianBlur(alpha, (0, 0), reach * 2.5)
        canvas += halo * (letters - canvas) * random.uniform(0.2, 0.6)
    elif effect < 0.36:  # letters that stand out from a wall, which may be of their colour
        down, right = random.choice(((1, 1), (1, -1), (1, 0), (-1, 1), (0, 1), (0, -1)))
        sides = alpha.copy()
        for step in range(1, max(2, reach + 1)):
            np.maximum(sides, np.roll(alpha, (down * step, right * step), (0, 1)), out=sides)
        canvas += sides * (random.uniform(0, 255) - canvas)
        if random.random() < 0.25:
            letters = ground + random.uniform(-20, 20)
    face_level: Plane | float = letters
    if random.random() < 0.2:  # letters with a gradient or two colours
        face_level = letters + _field(random, noise, shape, 2) * min(50.0, contrast * 0.4)
    canvas += alpha * (face_level - canvas)
    if effect > 0.95:  # relief: only the edges differ
        edges = cv2.filter2D(alpha, -1, np.array([[1, 1, 0], [1, 0, -1], [0, -1, -1]], np.float32))
        canvas = np.full(shape, ground, np.float32) + edges * random.choice((-1, 1)) * random.uniform(30, 80)
    if random.random() < 0.15 * hardness:  # glare or shade across everything
        canvas += (_field(random, noise, shape, 2) - 0.2) * min(70.0, contrast * random.uniform(0.3, 0.9))
    return np.asarray(np.clip(canvas, 0, 255), np.uint8)


def _printed(random: Random, noise: np.random.Generator, plane: Grey, kind: str) -> Grey:
    """Paper or screen with the line's ink on it; now and then light on dark."""
    shape = (plane.shape[0], plane.shape[1])
    if kind == "screen" and random.random() < 0.6:
        ground, letters = _levels(random)
    else:
        ground = random.choice((255.0, 250.0, random.uniform(170, 255), random.uniform(120, 235)))
        darkest = {"receipt": 0.75, "typescript": 0.55}.get(kind, 0.35)
        letters = ground * random.uniform(0.0, darkest if random.random() < 0.5 else 0.3)
    canvas = np.full(shape, ground, np.float32)
    if kind != "screen" and random.random() < 0.5:
        canvas += _field(random, noise, shape, random.choice((2, 4, 20))) * random.uniform(2, 22)
    if kind in ("book", "typescript") and random.random() < 0.15:  # the other side shows through
        back = cv2.GaussianBlur(np.ascontiguousarray(plane[:, ::-1]), (0, 0), 1.5).astype(np.float32) / 255
        canvas -= np.roll(back, random.randint(-12, 12), 0) * random.uniform(8, 40)
    alpha = plane.astype(np.float32) / 255
    canvas += alpha * (letters - canvas)
    if kind == "receipt" and random.random() < 0.08:
        canvas = 255 - canvas
    return np.asarray(np.clip(canvas, 0, 255), np.uint8)


def _ruled(random: Random, plane: Grey, box: tuple[int, int, int, int]) -> None:
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


def _crop(random: Random, image: Grey, corners: NDArray[np.float32], spread: float) -> Grey:
    """The upright box around the corners, now tighter, now looser."""
    low, high = corners.min(0), corners.max(0)
    height = float(high[1] - low[1])
    left, top = (float(low[i]) - height * random.gauss(spread / 2, spread) for i in (0, 1))
    right, bottom = (float(high[i]) + height * random.gauss(spread / 2, spread) for i in (0, 1))
    y0, y1 = max(0, round(top)), min(image.shape[0], round(bottom))
    x0, x1 = max(0, round(left)), min(image.shape[1], round(right))
    if y1 - y0 < 4 or x1 - x0 < 4:
        return image
    return np.ascontiguousarray(image[y0:y1, x0:x1])


def _photographed(random: Random, noise: np.random.Generator, image: Grey, hardness: float) -> Grey:
    """A word as a phone or a street camera delivers it."""
    image = camera.blur(random, image, 0.08 * hardness)
    height = round(math.exp(random.uniform(math.log(11 + 14 * (1 - hardness)), math.log(60))))
    image = camera.resample(random, image, height)
    image = camera.noise(random, noise, image, 22 * hardness)
    if random.random() < 0.12:
        image = camera.sharpen(image, random.uniform(0.4, 1.5))
    if random.random() < 0.7:
        image = camera.jpeg(image, random.randint(95 - round(65 * hardness), 95))
    return image


def _scanned(random: Random, noise: np.random.Generator, image: Grey, hardness: float, kind: str) -> Grey:
    """A line as a scanner or a screenshot delivers it."""
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


def _empty(random: Random, noise: np.random.Generator) -> Grey:
    """A picture without text: flat, shaded, textured, ruled or noisy."""
    shape = (random.randint(16, 60), random.randint(16, 200))
    canvas = np.full(shape, random.uniform(0, 255), np.float32)
    canvas += _field(random, noise, shape, random.choice((2, 4, 12))) * random.choice((0, 10, 60))
    image = np.asarray(np.clip(canvas, 0, 255), np.uint8)
    if random.random() < 0.3:
        cv2.line(
            image,
            (0, random.randrange(shape[0])),
            (shape[1], random.randrange(shape[0])),
            random.randrange(256),
            random.randint(1, 3),
        )
    return camera.noise(random, noise, image, 25)

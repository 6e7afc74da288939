"""Render text to ink masks, with spacing, typewriter jitter, arcs and worn or clogged strokes."""

from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

Mask = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels

LIGATURES = (("ffi", "ﬃ"), ("ffl", "ﬄ"), ("ff", "ﬀ"), ("fi", "ﬁ"), ("fl", "ﬂ"))
OPENING_MARKS, CLOSING_MARKS = "“„«‘‹", ";:!?»”›"


@dataclass(frozen=True)
class Typesetting:
    """Typesetting parameters of a line; lengths are in units of the font size.

    Attributes:
        tracking: space added after each character.
        word_space: factor on the face's own space.
        thin_space: gap before ; : ! ? and inside quotation marks, as old printers set it.
        jitter: standard deviation of a character's height over the baseline.
        ink_variation: largest loss of ink of a character, 0 to 1.
        monospaced: whether every character is centred in a cell of equal width.
    """

    tracking: float = 0.0
    word_space: float = 1.0
    thin_space: float = 0.0
    jitter: float = 0.0
    ink_variation: float = 0.0
    monospaced: bool = False


@dataclass(frozen=True)
class LineMask:
    """Ink of one line: uint8 mask `(H, W)`, 255 = full ink, and the row of its baseline.

    `boxes` are the ink boxes of its characters in the mask, without spaces; empty unless `draw_line` records them.
    """

    mask: Mask
    baseline: int
    boxes: tuple[Box, ...] = ()


@lru_cache(maxsize=512)
def load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    """Load a face at a size in pixels.

    The last 512 are cached, since loading takes about a millisecond.
    """
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=4096)
def _ligatures(path: str) -> tuple[tuple[str, str], ...]:
    """List the ligatures of a face as pairs of letters and ligature character."""
    font = load_font(path, 32)
    absent = bytes(font.getmask("\uffff"))
    return tuple(pair for pair in LIGATURES if bytes(font.getmask(pair[1])) not in (absent, b""))


def apply_ligatures(font: ImageFont.FreeTypeFont, text: str) -> str:
    """Replace letters by the ligatures of the face; the result is drawn and is not a transcript."""
    for letters, ligature in _ligatures(str(font.path)):
        text = text.replace(letters, ligature)
    return text


def _rasterise(font: ImageFont.FreeTypeFont, text: str) -> tuple[Mask, int, int]:
    """Rasterise `text`: its mask, its left bearing, and the rows above the baseline."""
    core, (left, top) = font.getmask2(text, mode="L", anchor="ls")
    width, height = core.size
    return np.asarray(core, np.uint8).reshape(height, width), int(left), int(-top)


@lru_cache(maxsize=8192)
def _ink_box(path: str, size: int, character: str) -> Box:
    """Ink box of a character, relative to its origin on the baseline."""
    mask, left, above = _rasterise(load_font(path, size), character)
    x, y, width, height = cv2.boundingRect(mask) if mask.size else (0, 0, 0, 0)
    return left + x, y - above, left + x + width, y - above + height


def _character_boxes(font: ImageFont.FreeTypeFont, text: str, x: float, lift: int) -> list[Box]:
    """Ink boxes of the characters of `text`, drawn from `x` on, `lift` rows above the baseline."""
    boxes = []
    for end, character in enumerate(text, start=1):
        left, top, right, bottom = _ink_box(str(font.path), int(font.size), character)
        origin = round(x + font.getlength(text[:end]) - font.getlength(character))  # the length includes kerning
        boxes.append((origin + left, top - lift, origin + right, bottom - lift))
    return boxes


def _pieces(text: str, setting: Typesetting) -> list[tuple[str, float]]:
    """Split `text` where spacing is explicit; each piece has the gap before it in font sizes."""
    pieces: list[tuple[str, float]] = []
    single = bool(setting.tracking or setting.jitter or setting.ink_variation or setting.monospaced)
    for index, character in enumerate(text):
        follows_opening = bool(pieces) and pieces[-1][0][-1] in OPENING_MARKS
        if character == " ":
            pieces.append((" ", 0.0))
        elif setting.thin_space and character in CLOSING_MARKS and index and text[index - 1] not in " " + CLOSING_MARKS:
            pieces.append((character, setting.thin_space))
        elif pieces and pieces[-1][0] != " " and not single and not (setting.thin_space and follows_opening):
            pieces[-1] = (pieces[-1][0] + character, pieces[-1][1])
        else:
            pieces.append((character, setting.thin_space if follows_opening else 0.0))
    return pieces


def draw_line(
    random: Random, font: ImageFont.FreeTypeFont, text: str, setting: Typesetting, *, with_boxes: bool = False
) -> LineMask:
    """Draw one line of text; the mask is cropped to the ink with a margin of one pixel.

    `with_boxes` records the boxes of the characters.
    """
    size = font.size
    cell = font.getlength("n") if setting.monospaced else 0.0
    placed: list[tuple[Mask, float, int]] = []
    boxes: list[Box] = []
    x = 0.0
    for piece, gap in _pieces(text, setting):
        x += gap * size
        if piece == " ":
            x += (cell or font.getlength(" ")) * setting.word_space + setting.tracking * size
            continue
        mask, left, above = _rasterise(font, piece)
        advance = font.getlength(piece)
        lift = round(random.gauss(0, setting.jitter) * size) if setting.jitter else 0
        if setting.jitter and piece.isupper() and random.random() < 0.15:
            lift += round(size * 0.08)  # a raised capital, as a typewriter's shift leaves it
        if setting.ink_variation:
            strength = 1 - setting.ink_variation * random.random()
            mask = np.asarray(mask * strength, np.uint8)
        offset = (cell - advance) / 2 if cell else 0.0
        placed.append((mask, x + left + offset, above + lift))
        if with_boxes:
            boxes += _character_boxes(font, piece, x + offset, lift)
        x += (cell or advance) + setting.tracking * size
    line = _assemble(placed)
    left = 1 - min((round(start) for mask, start, _ in placed if mask.size), default=0)
    return replace(
        line, boxes=tuple((a + left, b + line.baseline, c + left, d + line.baseline) for a, b, c, d in boxes)
    )


def _assemble(placed: list[tuple[Mask, float, int]]) -> LineMask:
    """Merge masks, each with its x and its rows above the baseline, into one line."""
    placed = [item for item in placed if item[0].size]
    if not placed:
        return LineMask(np.zeros((8, 8), np.uint8), 6)
    left = min(round(x) for _, x, _ in placed)
    right = max(round(x) + mask.shape[1] for mask, x, _ in placed)
    above = max(up for _, _, up in placed)
    below = max(mask.shape[0] - up for mask, _, up in placed)
    canvas = np.zeros((above + below + 2, right - left + 2), np.uint8)
    for mask, x, up in placed:
        top, start = above - up + 1, round(x) - left + 1
        window = canvas[top : top + mask.shape[0], start : start + mask.shape[1]]
        np.maximum(window, mask, out=window)
    return LineMask(canvas, above + 1)


def beside(left: LineMask, right: LineMask, gap: int) -> LineMask:
    """Join two lines on one baseline, `gap` pixels apart."""
    return _assemble([(left.mask, 0, left.baseline), (right.mask, left.mask.shape[1] + gap, right.baseline)])


def bend(random: Random, line: LineMask, strength: float) -> LineMask:
    """Bend the line to an arc or a wave whose rise is `strength` times its height."""
    height, width = line.mask.shape
    rise = strength * height
    phase = random.random()
    x = np.arange(width, dtype=np.float32) / max(width - 1, 1)
    if phase < 0.6:
        shift = rise * (1 - (2 * x - 1) ** 2) * random.choice((-1, 1))
    else:
        shift = rise * 0.5 * np.sin(2 * np.pi * (x * random.uniform(0.5, 1.5) + phase))
    pad = int(abs(rise)) + 2
    canvas = cv2.copyMakeBorder(line.mask, pad, pad, 0, 0, cv2.BORDER_CONSTANT, value=0)
    rows = np.arange(canvas.shape[0], dtype=np.float32)[:, None] + shift[None, :].astype(np.float32)
    columns = np.broadcast_to(np.arange(width, dtype=np.float32)[None, :], rows.shape)
    bent = cv2.remap(canvas, np.ascontiguousarray(columns), np.ascontiguousarray(rows), cv2.INTER_LINEAR)
    return LineMask(np.asarray(bent, np.uint8), line.baseline + pad)


def shear(mask: Mask, slope: float) -> Mask:
    """Slant the mask to the right by `slope` columns per row."""
    height, width = mask.shape
    extra = int(abs(slope) * height) + 1
    matrix = np.array([[1, -slope, slope * height if slope > 0 else 0.0], [0, 1, 0]], np.float32)
    return np.asarray(cv2.warpAffine(mask, matrix, (width + extra, height)), np.uint8)


def wear(random: Random, noise: np.random.Generator, mask: Mask, size: float) -> Mask:
    """Wear the ink as old presses, ribbons and thermal heads do: spread, eroded, broken, banded or clogged.

    `size` is the font size in pixels.
    """
    kind = random.random()
    kernel = np.ones((2, 2), np.uint8)
    if kind < 0.2:
        return np.asarray(cv2.dilate(mask, kernel), np.uint8)
    if kind < 0.35:
        return np.asarray(cv2.erode(mask, kernel), np.uint8)
    if kind < 0.75:
        coarse = max(2, int(size / random.uniform(3, 16)))
        patches = noise.random((mask.shape[0] // coarse + 2, mask.shape[1] // coarse + 2), dtype=np.float32)
        field = cv2.resize(patches, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_CUBIC)
        level = random.uniform(0.05, 0.3)
        kept = np.clip((field - level) * random.uniform(3, 12) + 0.5, random.uniform(0.0, 0.5), 1)
        return np.asarray(mask * kept, np.uint8)
    if kind < 0.88:
        period = random.uniform(3, 14)
        rows = 0.5 + 0.5 * np.sin(np.arange(mask.shape[0]) * 2 * np.pi / period + random.random() * 6)
        return np.asarray(mask * (1 - random.uniform(0.2, 0.7) * rows[:, None]), np.uint8)
    blurred = cv2.GaussianBlur(mask, (0, 0), size * random.uniform(0.02, 0.06))
    gain = random.uniform(1.2, 2.2)  # clogged letters, whose counters fill up
    return np.asarray(np.clip(blurred.astype(np.float32) * gain, 0, 255), np.uint8)


def add_specks(random: Random, noise: np.random.Generator, mask: Mask, size: float) -> Mask:
    """Add dirt between and on the letters, mostly smaller than a full stop.

    Specks are round and scattered, or ragged and in clusters as thresholding leaves them on stained paper. `size` is
    the font size in pixels.
    """
    dirty = mask.copy()
    height, width = mask.shape
    if random.random() < 0.5:
        for _ in range(random.randint(3, max(4, round(width / size * random.uniform(0.5, 4))))):
            radius = max(1, round(size * random.uniform(0.01, 0.035)))
            cv2.circle(dirty, (random.randrange(width), random.randrange(height)), radius, random.randint(120, 255), -1)
        return dirty
    grain = _smooth_noise(noise, mask.shape, size * random.uniform(0.05, 0.1))
    stains = _smooth_noise(noise, mask.shape, size * random.uniform(0.5, 2.0))
    paper = grain + random.uniform(0.3, 1.0) * stains
    level = np.quantile(paper, 1 - random.uniform(0.005, 0.05))
    return np.asarray(np.maximum(dirty, (paper > level) * np.uint8(255)), np.uint8)


def _smooth_noise(noise: np.random.Generator, shape: tuple[int, ...], cell: float) -> NDArray[np.float32]:
    """Generate smooth noise in about [0, 1], float32 of `shape`, with cells of `cell` pixels."""
    rows, columns = (max(2, round(side / max(cell, 1.5))) for side in shape[:2])
    coarse = noise.random((rows, columns), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def print_dots(random: Random, mask: Mask) -> Mask:
    """Render the mask as a dot-matrix printer does: round dots on a coarse grid."""
    height, width = mask.shape
    rows = random.randint(9, 14)
    step = max(2, round(height / rows))
    grid = cv2.resize(mask, (max(1, width // step), max(1, height // step)), interpolation=cv2.INTER_AREA)
    grid = (grid > random.uniform(70, 110)).astype(np.uint8) * 255
    scale = 6
    dot = np.zeros((scale, scale), np.uint8)
    cv2.circle(dot, (scale // 2, scale // 2), random.choice((2, 3)), 255, -1)
    fine = np.kron(grid // 255, dot)
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

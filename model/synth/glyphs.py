"""Text to a mask of ink: words, spacing, typewriter jitter, arcs, worn and clogged strokes."""

from dataclasses import dataclass
from functools import lru_cache
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

Mask = NDArray[np.uint8]

LIGATURES = (("ffi", "ﬃ"), ("ffl", "ﬄ"), ("ff", "ﬀ"), ("fi", "ﬁ"), ("fl", "ﬂ"))
OPENING, CLOSING = "“„«‘‹", ";:!?»”›"


@dataclass(frozen=True)
class Setting:
    """How a line is set; lengths are in units of the font size.

    `tracking` is added after each character, `word_space` multiplies the face's own space, `thin`
    is the gap that old printers put before ; : ! ? and inside quotation marks, `jitter` is the
    spread of a character's height over the baseline, `unevenness` (0 to 1) that of its blackness,
    `monospaced` sets every character in the middle of an equal cell.
    """

    tracking: float = 0.0
    word_space: float = 1.0
    thin: float = 0.0
    jitter: float = 0.0
    unevenness: float = 0.0
    monospaced: bool = False


@dataclass(frozen=True)
class Line:
    """Ink of one line: uint8 mask `(H, W)`, 255 = full ink, and the row of its baseline."""

    mask: Mask
    baseline: int


@lru_cache(maxsize=512)
def load(path: str, size: int) -> ImageFont.FreeTypeFont:
    """A face at a size in pixels; loading costs about a millisecond, so the last ones are kept."""
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=4096)
def _ligatures(path: str) -> tuple[tuple[str, str], ...]:
    """The joined forms that a face has of its own, as letters and the one character that draws them."""
    font = load(path, 32)
    absent = bytes(font.getmask("\uffff"))
    return tuple(pair for pair in LIGATURES if bytes(font.getmask(pair[1])) not in (absent, b""))


def joined(font: ImageFont.FreeTypeFont, text: str) -> str:
    """`text` with f and its neighbour as one character, where the face has that; to be drawn, not to be read."""
    for letters, ligature in _ligatures(str(font.path)):
        text = text.replace(letters, ligature)
    return text


def _glyphs(font: ImageFont.FreeTypeFont, text: str) -> tuple[Mask, int, int]:
    """Mask of `text` in one piece, its left bearing, and the rows above the baseline."""
    core, (left, top) = font.getmask2(text, mode="L", anchor="ls")
    width, height = core.size
    return np.asarray(core, np.uint8).reshape(height, width), int(left), int(-top)


def _pieces(text: str, setting: Setting) -> list[tuple[str, float]]:
    """`text` cut where ink must be placed apart, each piece with the gap before it in font sizes."""
    pieces: list[tuple[str, float]] = []
    single = bool(setting.tracking or setting.jitter or setting.unevenness or setting.monospaced)
    for index, character in enumerate(text):
        if character == " ":
            pieces.append((" ", 0.0))
        elif setting.thin and character in CLOSING and index and text[index - 1] not in " " + CLOSING:
            pieces.append((character, setting.thin))
        elif pieces and pieces[-1][0] != " " and not single and not (setting.thin and pieces[-1][0][-1] in OPENING):
            pieces[-1] = (pieces[-1][0] + character, pieces[-1][1])
        else:
            gap = setting.thin if pieces and pieces[-1][0][-1] in OPENING else 0.0
            pieces.append((character, gap))
    return pieces


def draw(random: Random, font: ImageFont.FreeTypeFont, text: str, setting: Setting) -> Line:
    """Ink of one line of text. The mask is cut to the ink, with one row or column to spare."""
    size = font.size
    cell = font.getlength("n") if setting.monospaced else 0.0
    placed: list[tuple[Mask, float, int]] = []
    x = 0.0
    for piece, gap in _pieces(text, setting):
        x += gap * size
        if piece == " ":
            x += (cell or font.getlength(" ")) * setting.word_space + setting.tracking * size
            continue
        mask, left, above = _glyphs(font, piece)
        advance = font.getlength(piece)
        lift = round(random.gauss(0, setting.jitter) * size) if setting.jitter else 0
        if setting.jitter and piece.isupper() and random.random() < 0.15:
            lift += round(size * 0.08)  # a capital struck before the carriage had settled
        if setting.unevenness:
            strength = 1 - setting.unevenness * random.random()
            mask = np.asarray(mask * strength, np.uint8)
        offset = (cell - advance) / 2 if cell else 0.0
        placed.append((mask, x + left + offset, above + lift))
        x += (cell or advance) + setting.tracking * size
    return _assemble(placed)


def _assemble(placed: list[tuple[Mask, float, int]]) -> Line:
    placed = [item for item in placed if item[0].size]
    if not placed:
        return Line(np.zeros((8, 8), np.uint8), 6)
    left = min(round(x) for _, x, _ in placed)
    right = max(round(x) + mask.shape[1] for mask, x, _ in placed)
    above = max(up for _, _, up in placed)
    below = max(mask.shape[0] - up for mask, _, up in placed)
    canvas = np.zeros((above + below + 2, right - left + 2), np.uint8)
    for mask, x, up in placed:
        top, start = above - up + 1, round(x) - left + 1
        window = canvas[top : top + mask.shape[0], start : start + mask.shape[1]]
        np.maximum(window, mask, out=window)
    return Line(canvas, above + 1)


def beside(left: Line, right: Line, gap: int) -> Line:
    """Two lines on one baseline, `gap` columns apart."""
    return _assemble([(left.mask, 0, left.baseline), (right.mask, left.mask.shape[1] + gap, right.baseline)])


def bend(random: Random, line: Line, strength: float) -> Line:
    """The line on an arc or a wave whose rise is `strength` times its height."""
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
    return Line(np.asarray(bent, np.uint8), line.baseline + pad)


def shear(mask: Mask, slope: float) -> Mask:
    """The mask slanted to the right by `slope` columns a row."""
    height, width = mask.shape
    extra = int(abs(slope) * height) + 1
    matrix = np.array([[1, -slope, slope * height if slope > 0 else 0.0], [0, 1, 0]], np.float32)
    return np.asarray(cv2.warpAffine(mask, matrix, (width + extra, height)), np.uint8)


def wear(random: Random, noise: np.random.Generator, mask: Mask, size: float) -> Mask:
    """Ink as old presses, ribbons and thermal heads leave it: spread, eaten, broken or banded.

    `size` is the font size in pixels, whatever margins the mask has.
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
    gain = random.uniform(1.2, 2.2)  # clogged letters: counters fill up
    return np.asarray(np.clip(blurred.astype(np.float32) * gain, 0, 255), np.uint8)


def specks(random: Random, noise: np.random.Generator, mask: Mask, size: float) -> Mask:
    """The mask with dirt between and on the letters, little of it as large as a full stop in a clean face.

    Round specks anywhere, or the ragged ones that a threshold leaves of stained paper, in clusters.
    `size` is the font size in pixels.
    """
    dirty = mask.copy()
    height, width = mask.shape
    if random.random() < 0.5:
        for _ in range(random.randint(3, max(4, round(width / size * random.uniform(0.5, 4))))):
            radius = max(1, round(size * random.uniform(0.01, 0.035)))
            cv2.circle(dirty, (random.randrange(width), random.randrange(height)), radius, random.randint(120, 255), -1)
        return dirty
    grain = _cloud(noise, mask.shape, size * random.uniform(0.05, 0.1))
    stains = _cloud(noise, mask.shape, size * random.uniform(0.5, 2.0))
    paper = grain + random.uniform(0.3, 1.0) * stains
    level = np.quantile(paper, 1 - random.uniform(0.005, 0.05))
    return np.asarray(np.maximum(dirty, (paper > level) * np.uint8(255)), np.uint8)


def _cloud(noise: np.random.Generator, shape: tuple[int, ...], cell: float) -> NDArray[np.float32]:
    """Smooth noise in about [0, 1] with a bump every `cell` pixels."""
    rows, columns = (max(2, round(side / max(cell, 1.5))) for side in shape[:2])
    coarse = noise.random((rows, columns), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def dots(random: Random, mask: Mask) -> Mask:
    """The mask as a dot-matrix head prints it: sampled on a coarse grid and drawn as round dots."""
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

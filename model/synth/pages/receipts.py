"""Receipts: a header, articles in columns, totals, and a footer."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import cv2

from linewise.model.synth.pages import phrases
from linewise.model.synth.pages.page_layout import (
    FacePools,
    PageCanvas,
    TextStyle,
    blank_page,
    draw_clutter,
    draw_rule,
)
from linewise.model.synth.sources import corpus, fields


@dataclass(frozen=True)
class _ReceiptLayout:
    """Layout of a receipt; lengths and positions are in pixels.

    Attributes:
        style: style of the body text.
        line_pitch: distance of two baselines.
        left: left edge of the text.
        right: right edge of the text.
        anchor: alignment of the header, left or middle.
        anchor_x: position of the header's anchor.
    """

    style: TextStyle
    line_pitch: float
    left: float
    right: float
    anchor: str
    anchor_x: float


@dataclass(frozen=True)
class _ReceiptColumns:
    """Columns of the articles.

    Attributes:
        cells: right edge of each column in pixels, with the generator of its cells.
        counted: whether articles begin with a count.
        colon_x: position of the column of colons in pixels.
    """

    cells: tuple[tuple[float, Callable[[Random], str]], ...]
    counted: bool
    colon_x: float


def draw_receipt(random: Random, faces: FacePools) -> PageCanvas:
    """Draw a receipt, sometimes dot-matrix printed, with a barcode, or with pen marks and stamps."""
    width = random.randint(320, 640)
    size = max(10, round(width / random.uniform(20, 34)))
    style = TextStyle(faces.choose(random, "receipt" if random.random() < 0.8 else "any"), size)
    title_face = faces.choose(random) if random.random() < 0.3 else style.face
    line_pitch = size * random.uniform(1.05, 1.7)
    rows = random.randint(12, 50)
    canvas = blank_page(width, round(rows * line_pitch + 6 * size), dotted=random.random() < 0.12)
    left, right = width * random.uniform(0.03, 0.1), width * random.uniform(0.9, 0.97)
    y = size * random.uniform(1.5, 3)
    anchor = random.choice(("middle", "middle", "left"))
    layout = _ReceiptLayout(style, line_pitch, left, right, anchor, width / 2 if anchor == "middle" else left)
    for number in range(random.randint(2, 7)):
        title = number == 0 and random.random() < 0.6
        header = TextStyle(title_face, round(size * random.uniform(1.1, 1.6))) if title else style
        canvas.draw_text(random, header, phrases.letterhead(random), layout.anchor_x, y, anchor)
        y += line_pitch * (1.4 if title else 1)
    columns = _choose_columns(random, left, right)
    while y < canvas.height - 4 * size:
        y = _draw_row(random, canvas, layout, columns, y) + line_pitch
    for _ in range(random.randint(0, 3)):
        canvas.draw_text(random, style, random.choice(corpus.RECEIPT_WORDS), width / 2, y, "middle")
        y += line_pitch
    if random.random() < 0.25:
        _draw_barcode(random, canvas, y)
    if random.random() < 0.3:  # pen marks and a stamp
        draw_clutter(random, canvas, random.randint(1, 3))
    return canvas


def _choose_columns(random: Random, left: float, right: float) -> _ReceiptColumns:
    """Choose the columns of a receipt; the cells of a column are of one kind."""
    edges = sorted(random.uniform(left + (right - left) * 0.3, right) for _ in range(random.randint(0, 4)))
    cells = tuple((edge, random.choice(phrases.CELL_WRITERS)) for edge in edges)
    counted = random.random() < 0.3
    return _ReceiptColumns(cells, counted, left + (right - left) * random.uniform(0.25, 0.6))


def _draw_row(random: Random, canvas: PageCanvas, layout: _ReceiptLayout, columns: _ReceiptColumns, y: float) -> float:
    """Draw a rule, a gap, a total, an article or a free line at the baseline `y`.

    Returns `y`, increased by the height of a gap.
    """
    style, left, right = layout.style, layout.left, layout.right
    kind = random.random()
    if kind < 0.12:
        draw_rule(random, canvas, left, right, y - style.size * 0.3)
    elif kind < 0.2:
        y += layout.line_pitch * random.uniform(0.2, 0.8)
    elif kind < 0.45:
        _draw_total(random, canvas, layout, columns.colon_x, y)
    elif kind < 0.7:
        _draw_article(random, canvas, layout, columns, y)
    else:
        x, anchor = random.choice(((left, "left"), (left, "left"), (layout.anchor_x, layout.anchor)))
        canvas.draw_text(random, style, corpus.receipt_line(random), x, y, anchor)
    return y


def _draw_total(random: Random, canvas: PageCanvas, layout: _ReceiptLayout, colon_x: float, y: float) -> None:
    """Draw a name at the left and a number at the right.

    A colon follows the name or stands in the column of colons.
    """
    style = layout.style
    name = random.choice(corpus.RECEIPT_WORDS)
    if random.random() < 0.3:
        if canvas.draw_text(random, style, name, layout.left, y) < colon_x - style.size:
            canvas.draw_text(random, style, ":", colon_x, y)
    else:
        canvas.draw_text(random, style, name + random.choice((":", " :", "")), layout.left, y)
    canvas.draw_text(random, style, fields.number(random), layout.right, y, "right")


def _draw_article(
    random: Random, canvas: PageCanvas, layout: _ReceiptLayout, columns: _ReceiptColumns, y: float
) -> None:
    """Draw an article: its count, its name, and the cells that do not overlap the name."""
    style, x = layout.style, layout.left
    if columns.counted:
        x = canvas.draw_text(random, style, str(random.randint(1, 12)), x, y) + style.size * 1.5
    end = canvas.draw_text(random, style, phrases.words(random, random.randint(1, 3)), x, y)
    for edge, write in (*columns.cells, (layout.right, fields.number)):
        if edge - style.size * 3 > end:
            end = canvas.draw_text(random, style, write(random), edge, y, "right")


def _draw_barcode(random: Random, canvas: PageCanvas, y: float) -> None:
    """Draw a barcode below `y` across the middle of the page."""
    x, end = canvas.width * 0.2, canvas.width * 0.8
    height = random.randint(15, 50)
    while x < end and y + height < canvas.height:
        bar = random.randint(1, 4)
        cv2.rectangle(canvas.plane, (round(x), round(y)), (round(x) + bar - 1, round(y) + height), 255, -1)
        x += bar + random.randint(1, 5)

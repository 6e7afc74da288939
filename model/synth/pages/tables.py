"""Forms with labelled boxes, and tables."""

import itertools
from dataclasses import replace
from random import Random

import cv2

from linewise.model.synth.pages import phrases
from linewise.model.synth.pages.page_layout import FacePools, PageCanvas, TextStyle, blank_page
from linewise.model.synth.sources import fields


def draw_form(random: Random, faces: FacePools) -> PageCanvas:
    """Draw a form: a title and rows of boxes with labels, most of them filled in."""
    size = random.randint(10, 20)
    width, height = round(size * random.uniform(26, 46)), round(size * random.uniform(20, 50))
    canvas = blank_page(width, height)
    label_style, entry_style = TextStyle(faces.choose(random), size), TextStyle(faces.choose(random), size)
    y = size * 2.0
    title_style = replace(label_style, size=round(size * random.uniform(1.2, 1.8)))
    canvas.draw_text(random, title_style, phrases.letterhead(random), width / 2, y, "middle")
    y += size * 1.5
    label_style = replace(label_style, size=max(8, round(size * 0.7)))
    while y < height - size * 4:
        cells = random.randint(1, 4)
        edges = [size, *sorted(random.uniform(size * 4, width - size * 4) for _ in range(cells - 1)), width - size]
        row_height = size * random.uniform(1.7, 3.2)
        for left, right in itertools.pairwise(edges):
            _draw_form_cell(random, canvas, (label_style, entry_style), (left, y, right, y + row_height))
        y += row_height + random.choice((0.0, size * random.uniform(0.2, 1)))
    return canvas


def _draw_form_cell(
    random: Random,
    canvas: PageCanvas,
    styles: tuple[TextStyle, TextStyle],
    cell: tuple[float, float, float, float],
) -> None:
    """Draw a cell (left, top, right, bottom) of a form; `styles` are those of label and entry."""
    label_style, entry_style = styles
    size = entry_style.size
    left, top, right, bottom = cell
    if random.random() < 0.75:
        corners = (round(left), round(top)), (round(right), round(bottom))
        cv2.rectangle(canvas.plane, *corners, 255, random.randint(1, 2))
    label = phrases.words(random, random.randint(1, 3))
    label_end = canvas.draw_text(random, label_style, label, left + size * 0.3, top + size * 0.85)
    if random.random() < 0.7 and right - label_end > size * 3:
        below = bottom - top > size * 2.3
        x, baseline = (left + size * 0.5, bottom - size * 0.3) if below else (label_end + size, top + size)
        entry = random.choice((fields.number, fields.date, fields.code, phrases.letterhead))(random)
        canvas.draw_text(random, entry_style, entry, x, baseline)


def draw_table(random: Random, faces: FacePools) -> PageCanvas:
    """Draw a table with a header row, often ruled; the cells of a column are of one kind."""
    size = random.randint(10, 20)
    columns, rows = random.randint(2, 9), random.randint(4, 20)
    writers = [
        lambda r: phrases.words(r, 1),
        *random.choices((*phrases.CELL_WRITERS, fields.number, fields.date, fields.code), k=columns - 1),
    ]
    narrow = [writer in (phrases.count, phrases.flag) for writer in writers]
    widths = [size * random.uniform(*((2.2, 5) if is_narrow else (5, 9))) for is_narrow in narrow]
    edges = [size * 1.5, *(size * 1.5 + end for end in itertools.accumulate(widths))]
    width, pitch = round(edges[-1] + size * 1.5), size * random.uniform(1.2, 2.2)
    canvas = blank_page(width, round(pitch * (rows + 3)))
    style = TextStyle(faces.choose(random), size)
    ruled, right_aligned = random.random() < 0.5, [random.random() < 0.5 for _ in range(columns)]
    for row in range(rows):
        y = pitch * (row + 1.5)
        for column in range(columns):
            if random.random() < 0.08:
                continue
            is_header = row == 0 and not narrow[column]
            text = phrases.words(random, 1) if is_header else writers[column](random)
            x = edges[column]
            if right_aligned[column]:
                canvas.draw_text(random, style, text, x + widths[column] - size * 0.4, y, "right")
            else:
                canvas.draw_text(random, style, text, x + size * 0.4, y)
        if ruled:
            rule_y = round(y + pitch * 0.3)
            cv2.line(canvas.plane, (round(size * 1.5), rule_y), (round(edges[-1]), rule_y), 255, 1)
    if ruled and random.random() < 0.7:
        for x in map(round, edges):
            cv2.line(canvas.plane, (x, round(pitch * 0.8)), (x, round(pitch * (rows + 0.8))), 255, 1)
    return canvas

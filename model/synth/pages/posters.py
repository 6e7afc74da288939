"""Posters, and screens with windows, menus and buttons."""

from random import Random

import cv2

from linewise.model.synth.pages import phrases
from linewise.model.synth.pages.page_layout import FacePools, PageCanvas, TextStyle, blank_page, draw_clutter
from linewise.model.synth.sources import fields


def draw_poster(random: Random, faces: FacePools) -> PageCanvas:
    """Draw a poster of lines in different faces and sizes, sometimes with other shapes."""
    width, height = random.randint(300, 900), random.randint(200, 900)
    canvas = blank_page(width, height)
    y = 10.0
    while y < height - 30:
        size = random.randint(14, 90)
        y += size * random.uniform(1.0, 1.6)
        anchor = random.choice(("middle", "left", "right"))
        x = {"middle": width / 2, "left": 12, "right": width - 12}[anchor]
        text = phrases.words(random, random.randint(1, 4))
        style = TextStyle(faces.choose(random), size)
        canvas.draw_text(random, style, text.upper() if random.random() < 0.4 else text, x, y, anchor)
    if random.random() < 0.4:
        draw_clutter(random, canvas, random.randint(1, 3))
    return canvas


def draw_screen(random: Random, faces: FacePools) -> PageCanvas:
    """Draw a screen of windows that do not overlap the text of earlier ones."""
    width, height = random.randint(400, 900), random.randint(250, 700)
    canvas = blank_page(width, height)
    style = TextStyle(faces.choose(random), random.randint(11, 18))
    for _ in range(random.randint(2, 7)):
        left, top = random.randint(2, width - 120), random.randint(2, height - 60)
        right = min(width - 2, left + random.randint(100, 500))
        bottom = min(height - 2, top + random.randint(30, 300))
        if any(b[0] < right and b[2] > left and b[1] < bottom and b[3] > top for b in canvas.boxes):
            continue
        if random.random() < 0.6:
            cv2.rectangle(canvas.plane, (left, top), (right, bottom), random.randint(60, 255), 1)
        y = top + style.size * 1.5
        while y < bottom - 4:
            _draw_screen_row(random, canvas, style, (left + style.size * 0.6, right), y)
            y += style.size * random.uniform(1.3, 2.2)
    return canvas


def _draw_screen_row(random: Random, canvas: PageCanvas, style: TextStyle, span: tuple[float, float], y: float) -> None:
    """Draw one to four texts beside each other from the left to the right end of `span`."""
    x, right = span
    for _ in range(random.choice((1, 1, 2, 4))):
        text = random.choice(
            (phrases.words(random, random.randint(1, 5)), fields.address(random), fields.number(random))
        )
        end = canvas.draw_text(random, style, text, x, y)
        if end == int(x) or end > right:
            break
        x = end + style.size * random.uniform(1.5, 4)

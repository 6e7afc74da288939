"""Pages of prose: books in one or two columns, and letters."""

from random import Random

from linewise.model.synth import glyphs
from linewise.model.synth.pages import phrases
from linewise.model.synth.pages.page_layout import (
    FacePools,
    PageCanvas,
    ParagraphFormat,
    TextStyle,
    blank_page,
    fill_paragraphs,
)
from linewise.model.synth.sources import fields


def draw_book(random: Random, faces: FacePools) -> PageCanvas:
    """Draw a book page in one or two columns, often with a page number or a heading."""
    size = random.randint(11, 26)
    columns = random.choice((1, 1, 1, 2))
    width = round(size * random.uniform(22, 34) * columns * 0.8)
    canvas = blank_page(width, round(width * random.uniform(0.8, 1.6)))
    face = faces.choose(random, "book")
    setting = glyphs.Typesetting(word_space=random.uniform(0.8, 1.4), thin_space=random.choice((0.0, 0.15)))
    style = TextStyle(face, size, setting)
    line_pitch = size * random.uniform(1.05, 1.5)
    margin = width * random.uniform(0.05, 0.14)
    language = random.choice(("en", "en", "fr", "es", "de"))
    if random.random() < 0.7:
        number = fields.page_number(random)
        canvas.draw_text(random, TextStyle(face, size), number, width / 2, margin * 0.7 + size * 0.5, "middle")
    gutter = size * random.uniform(1, 2.5)
    column_width = (width - 2 * margin - gutter * (columns - 1)) / columns
    top = margin + size * random.uniform(0, 2)
    if random.random() < 0.25:
        heading = TextStyle(face, round(size * 1.4))
        canvas.draw_text(random, heading, fields.heading(random), width / 2, top + size, "middle")
        top += size * 2.5
    for column in range(columns):
        left = margin + column * (column_width + gutter)
        paragraph = ParagraphFormat(line_pitch, language, justified=random.random() < 0.85)
        area = (left, top, left + column_width, canvas.height - margin)
        fill_paragraphs(random, canvas, style, paragraph, area)
    return canvas


def draw_letter(random: Random, faces: FacePools) -> PageCanvas:
    """Draw a letter, typed or printed, with up to five lines of letterhead and date."""
    size = random.randint(11, 24)
    width = round(size * random.uniform(26, 44))
    canvas = blank_page(width, round(width * random.uniform(0.6, 1.5)))
    typed = random.random() < 0.6
    face = faces.choose(random, "typewriter" if typed else "any")
    setting = glyphs.Typesetting(
        jitter=random.choice((0.0, 0.012)), ink_variation=random.choice((0.0, 0.3)) if typed else 0.0
    )
    margin, y = width * random.uniform(0.06, 0.14), size * 3.0
    for _ in range(random.randint(0, 5)):
        anchor = random.choice(("left", "right"))
        text = random.choice((phrases.letterhead, fields.date, fields.heading))(random)
        canvas.draw_text(random, TextStyle(face, size), text, margin if anchor == "left" else width - margin, y, anchor)
        y += size * random.uniform(1.2, 2)
    language = random.choice(("en", "de", "cs", "da", "fr"))
    paragraph = ParagraphFormat(size * random.uniform(1.15, 2.1), language, justified=False)
    area = (margin, y + size, width - margin, canvas.height - margin * 0.6)
    fill_paragraphs(random, canvas, TextStyle(face, size, setting), paragraph, area)
    return canvas

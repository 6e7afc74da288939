"""Tables of words in Tesseract's columns, and plain text laid out as on the page."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from linewise.service.documents.layout import Document, Line, Page
from linewise.service.formats.text import MAX_COLUMNS, write_text
from linewise.service.formats.tsv import write_tsv
from tests.service.formats.samples import PAGES, document_of, line_of

ITEMS = [("Bread, sliced", "2", "5.00"), ("Oat milk", "12", "21.40"), ("TOTAL", "", "126.40")]


def receipt() -> Page:
    """Three rows of cells, 12 pixels a letter; the numbers end in the same columns."""
    lines = []
    for row, cells in enumerate(ITEMS):
        for text, left, right in zip(cells, (30, 0, 0), (0, 306, 426), strict=True):
            if text:
                start = (left or right - 12 * len(text), 40.0 + 30 * row)
                lines.append(replace(line_of(text, start), row=row))
    return document_of(lines, size=(500, 300)).pages[0]


def test_a_table_has_a_row_for_each_page_block_paragraph_line_and_word() -> None:
    rows = list(csv.DictReader(io.StringIO(write_tsv(document_of(*PAGES))), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [(row["level"], row["page_num"]) for row in rows if row["level"] != "5"] == [
        *(("1", "1"), ("2", "1"), ("3", "1"), ("4", "1"), ("4", "1")),
        ("1", "2"),
        *(("1", "3"), ("2", "3"), ("3", "3"), ("4", "3")),
    ]
    words = [row for row in rows if row["level"] == "5"]
    assert [word["text"] for word in words] == ["Žluťoučký", "<kůň>", "&", '"Straße"', "schräg", "5", "€", "up"]
    first = words[0]
    assert [int(first[name]) for name in ("left", "top", "width", "height")] == [20, 30, 108, 24]
    assert float(first["conf"]) == 82 and rows[0]["conf"] == "-1"
    assert [word["word_num"] for word in words] == ["1", "2", "3", "4", "1", "2", "3", "1"]
    assert rows[0]["width"] == "400" and rows[0]["height"] == "300"


def test_cells_of_a_row_are_one_line_of_the_table() -> None:
    rows = list(csv.DictReader(io.StringIO(write_tsv(Document((receipt(),)))), delimiter="\t"))
    words = [(row["line_num"], row["word_num"], row["text"]) for row in rows if row["level"] == "5"]
    assert words[:4] == [("1", "1", "Bread,"), ("1", "2", "sliced"), ("1", "3", "2"), ("1", "4", "5.00")]
    assert [row["text"] for row in rows if row["line_num"] == "3" and row["level"] == "5"] == ["TOTAL", "126.40"]


def test_the_text_of_a_page_has_tabs_between_cells_and_the_plain_text_their_places() -> None:
    page = receipt()
    assert page.text == "Bread, sliced\t2\t5.00\nOat milk\t12\t21.40\nTOTAL\t126.40"
    first, second, third = write_text(Document((page,))).splitlines()
    assert first.startswith("Bread, sliced  ") and third.startswith("TOTAL  ")
    assert len(first) == len(second) == len(third) == round((426 - 30) / 12)
    assert first.index("2") == second.index("12") + 1


def test_a_second_column_of_prose_begins_at_the_margin_and_words_stay_hyphenated() -> None:
    left = [
        replace(line_of(text, (20, 40 + 30 * i)), row=i) for i, text in enumerate(["It was a dark and hy-", "phenated"])
    ]
    right = [replace(line_of(text, (320, 40 + 30 * i)), row=2 + i) for i, text in enumerate(["night, and", "  it"])]
    assert write_text(document_of(left + right)) == "It was a dark and hy-\nphenated\nnight, and\n  it\n"


def test_an_indented_row_is_indented_and_crowded_cells_stay_apart() -> None:
    crowded = [replace(line_of("wide letters", (20, 80)), row=1), replace(line_of("next", (100, 80)), row=1)]
    document = document_of([line_of("indented", (56, 40)), *crowded])
    assert write_text(document) == "   indented\nwide letters  next\n"


def test_no_row_is_endless_and_withheld_lines_leave_none() -> None:
    tiny = [replace(line_of("x" * 100, (0, 40), advance=0.01), row=0), replace(line_of("end", (390, 40)), row=0)]
    assert max(map(len, write_text(document_of(tiny)).splitlines())) <= MAX_COLUMNS + 3
    withheld = Line("", 0.2, 0.2, line_of("a").polygon)
    assert write_text(document_of([withheld], [])) == ""
    assert write_tsv(document_of([withheld])).count("\n") == 2

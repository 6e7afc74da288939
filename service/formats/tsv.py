"""Tables of words as Tesseract writes them, in tab-separated values."""

from __future__ import annotations

from itertools import chain

from linewise.service.documents.layout import Document, Page, Word, bounding_box

HEADER = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"


def write_tsv(document: Document) -> str:
    """Write a document with words as a table: a row for each page, block, paragraph, line and word.

    ``level`` says which, from 1 to 5. Boxes are in pixels of the upright page; ``conf`` of a word is the confidence of
    its weakest character in percent, -1 elsewhere. Each page is one block with one paragraph; the cells of a row are
    one line.
    """
    return HEADER + "".join(_page_table(page, number) for number, page in enumerate(document.pages, start=1))


def _page_table(page: Page, number: int) -> str:
    parts = [f"1\t{number}\t0\t0\t0\t0\t0\t0\t{page.width}\t{page.height}\t-1\t\n"]
    words_of_rows = [words for row in page.rows if (words := [word for line in row for word in line.words])]
    if words_of_rows:
        box = _box(page, *chain(*words_of_rows))
        parts += [f"2\t{number}\t1\t0\t0\t0\t{box}\t-1\t\n", f"3\t{number}\t1\t1\t0\t0\t{box}\t-1\t\n"]
    for row, words in enumerate(words_of_rows, start=1):
        parts.append(f"4\t{number}\t1\t1\t{row}\t0\t{_box(page, *words)}\t-1\t\n")
        for position, word in enumerate(words, start=1):
            confidence = f"{100 * word.confidence:.6f}"
            parts.append(f"5\t{number}\t1\t1\t{row}\t{position}\t{_box(page, word)}\t{confidence}\t{word.text}\n")
    return "".join(parts)


def _box(page: Page, *words: Word) -> str:
    """Left, top, width and height of the box around words."""
    corners = [corner for word in words for corner in word.polygon]
    left, top, right, bottom = bounding_box(corners, page.width, page.height)
    return f"{left}\t{top}\t{right - left}\t{bottom - top}"

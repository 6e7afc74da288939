"""The order in which people read the lines of a page: columns of prose one after the other, all else row by row."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from linewise.model.page.postprocess import Quad, size

# A line of prose is at least so many times as long as high; the cells of a table are shorter.
PROSE = 7.0
FEWEST = 3  # lines on either side of a gap before it is taken for one between columns

Boxes = NDArray[np.float64]


def reading_order(quads: Sequence[Quad]) -> list[list[int]]:
    """Rows of indexes into `quads`, from the first to the last to be read, each from left to right.

    The page may be skewed: rows follow the lines' own slope. Cells side by side make one row; a gap
    from top to bottom between two stacks of prose splits a page, or the part of a page between two
    lines that cross it, into columns.
    """
    if not quads:
        return []
    boxes = _levelled(quads)
    return _ordered(boxes, list(range(len(quads))))


def _levelled(quads: Sequence[Quad]) -> Boxes:
    """Boxes (left, top, right, bottom) of the lines after the page's skew has been taken out."""
    slopes = [np.arctan2(*(q[1] - q[0] + q[2] - q[3])[::-1]) for q in quads]
    weights = np.array([size(q)[0] for q in quads])
    order = np.argsort(slopes)
    middle = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)  # the median, long lines counting more
    angle = float(slopes[order[min(int(middle), len(order) - 1)]])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = [q.astype(np.float64) @ turn.T for q in quads]
    return np.array([[*q.min(0), *q.max(0)] for q in moved])


def _ordered(boxes: Boxes, which: list[int]) -> list[list[int]]:
    rows = _rows(boxes, which)
    # Rows that cross every gap (headings, rules of text over both columns) part the page into bands.
    gap = _gap(boxes, which)
    if gap is None:
        return rows
    left = [i for i in which if boxes[i, 2] <= gap]
    right = [i for i in which if boxes[i, 0] >= gap]
    crossing = sorted((i for i in which if boxes[i, 0] < gap < boxes[i, 2]), key=lambda i: boxes[i, 1])
    ordered: list[list[int]] = []
    for line in [*crossing, None]:
        bottom = np.inf if line is None else (boxes[line, 1] + boxes[line, 3]) / 2
        for side in (left, right):
            above = [i for i in side if (boxes[i, 1] + boxes[i, 3]) / 2 < bottom]
            side[:] = [i for i in side if i not in set(above)]
            if above:
                ordered += _ordered(boxes, above)
        if line is not None:
            ordered.append([line])
    return ordered


def _gap(boxes: Boxes, which: list[int]) -> float | None:
    """Where a gap between two columns of prose runs, or None; few lines may cross it."""
    if len(which) < 2 * FEWEST:
        return None
    part = boxes[which]
    heights, widths = part[:, 3] - part[:, 1], part[:, 2] - part[:, 0]
    height = float(np.median(heights))
    best: tuple[int, float] | None = None
    for x in np.unique(part[:, 2]):  # a gap begins where a line ends
        place = float(x) + 0.3 * height
        crossing = (part[:, 0] < place) & (part[:, 2] > place)
        left, right = part[:, 2] <= place, part[:, 0] >= place
        if left.sum() < FEWEST or right.sum() < FEWEST or crossing.sum() > 0.25 * len(part):
            continue
        if (part[right, 0].min() - part[left, 2].max()) < 0.5 * height:
            continue
        if all(float(np.median(widths[side] / heights[side])) >= PROSE for side in (left, right)) and (
            best is None or int(crossing.sum()) < best[0]
        ):
            best = (int(crossing.sum()), (float(part[left, 2].max()) + float(part[right, 0].min())) / 2)
    return best[1] if best else None


def _rows(boxes: Boxes, which: list[int]) -> list[list[int]]:
    """Lines side by side as rows: those whose middles lie within half a height of each other."""
    rows: list[list[int]] = []
    for index in sorted(which, key=lambda i: boxes[i, 1] + boxes[i, 3]):
        for row in reversed(rows[-4:]):
            if all(_beside(boxes[index], boxes[other]) for other in row):
                row.append(index)
                break
        else:
            rows.append([index])
    return [sorted(row, key=lambda i: boxes[i, 0]) for row in rows]


def _beside(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether two boxes share at least half of the lower one's height and do not lie over each other."""
    shared = min(a[3], b[3]) - max(a[1], b[1])
    apart = min(a[2], b[2]) - max(a[0], b[0]) < 0.3 * min(a[2] - a[0], b[2] - b[0])
    return bool(shared >= 0.5 * min(a[3] - a[1], b[3] - b[1]) and apart)

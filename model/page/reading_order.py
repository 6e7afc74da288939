"""Reading order of lines: columns of prose one after the other, anything else row by row."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from linewise.model.page.geometry import Quad, quad_size

PROSE_MIN_ASPECT_RATIO = 7.0  # width over height of a line of prose; the cells of a table are shorter
COLUMN_MIN_LINES = 3  # on either side of a gap between columns
GAP_MIN_WIDTH_RATIO = 0.5  # in median line heights
GAP_MAX_CROSSING_SHARE = 0.25  # of the lines, such as headings over both columns
ROW_LOOKBACK_ROWS = 4  # of the rows so far, the last ones that a line may still join
ROW_MIN_OVERLAP_RATIO = 0.5  # vertical, in heights of the lower line
ROW_MAX_OVERLAP_RATIO = 0.3  # horizontal, in widths of the narrower line

Boxes = NDArray[np.float64]


def reading_order(quads: Sequence[Quad]) -> list[list[int]]:
    """Rows of indexes into `quads` in reading order, each from left to right.

    The page may be skewed: rows follow the slope of the lines. Cells side by side make one row. A gap
    from top to bottom between two stacks of prose splits a page, or the part of a page between two
    lines that cross the gap, into columns.
    """
    if not quads:
        return []
    boxes = _deskewed(quads)
    return _order_lines(boxes, list(range(len(quads))))


def _deskewed(quads: Sequence[Quad]) -> Boxes:
    """Bounding boxes (left, top, right, bottom) of the lines, rotated by the page's skew."""
    slopes = [np.arctan2(*(q[1] - q[0] + q[2] - q[3])[::-1]) for q in quads]
    weights = np.array([quad_size(q)[0] for q in quads])
    order = np.argsort(slopes)
    median = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)  # weighted by the lengths of the lines
    angle = float(slopes[order[min(int(median), len(order) - 1)]])
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    rotated = [q.astype(np.float64) @ rotation.T for q in quads]
    return np.array([[*q.min(0), *q.max(0)] for q in rotated])


def _order_lines(boxes: Boxes, indexes: list[int]) -> list[list[int]]:
    """Rows of the lines `indexes`, column by column where a gap separates columns."""
    gap = _column_gap(boxes, indexes)
    if gap is None:
        return _rows(boxes, indexes)
    left = [i for i in indexes if boxes[i, 2] <= gap]
    right = [i for i in indexes if boxes[i, 0] >= gap]
    # Lines across the gap (headings, rules of text over both columns) divide the page into bands.
    crossing = sorted((i for i in indexes if boxes[i, 0] < gap < boxes[i, 2]), key=lambda i: boxes[i, 1])
    ordered: list[list[int]] = []
    for line in [*crossing, None]:
        bottom = np.inf if line is None else (boxes[line, 1] + boxes[line, 3]) / 2
        for column in (left, right):
            above = [i for i in column if (boxes[i, 1] + boxes[i, 3]) / 2 < bottom]
            column[:] = [i for i in column if i not in set(above)]
            if above:
                ordered += _order_lines(boxes, above)
        if line is not None:
            ordered.append([line])
    return ordered


def _column_gap(boxes: Boxes, indexes: list[int]) -> float | None:
    """Find the x position of the gap between two columns of prose: the one crossed by the fewest lines, or None."""
    if len(indexes) < 2 * COLUMN_MIN_LINES:
        return None
    part = boxes[indexes]
    heights, widths = part[:, 3] - part[:, 1], part[:, 2] - part[:, 0]
    height = float(np.median(heights))
    best: tuple[int, float] | None = None
    for line_end in np.unique(part[:, 2]):  # a gap begins where a line ends
        x = float(line_end) + 0.3 * height
        crossing = (part[:, 0] < x) & (part[:, 2] > x)
        left, right = part[:, 2] <= x, part[:, 0] >= x
        if min(left.sum(), right.sum()) < COLUMN_MIN_LINES or crossing.sum() > GAP_MAX_CROSSING_SHARE * len(part):
            continue
        gap_start, gap_end = part[left, 2].max(), part[right, 0].min()
        if (gap_end - gap_start) < GAP_MIN_WIDTH_RATIO * height:
            continue
        prose = all(float(np.median(widths[c] / heights[c])) >= PROSE_MIN_ASPECT_RATIO for c in (left, right))
        if prose and (best is None or int(crossing.sum()) < best[0]):
            best = (int(crossing.sum()), (float(gap_start) + float(gap_end)) / 2)
    return best[1] if best else None


def _rows(boxes: Boxes, indexes: list[int]) -> list[list[int]]:
    """Group lines that stand side by side into rows, from top to bottom."""
    rows: list[list[int]] = []
    for index in sorted(indexes, key=lambda i: boxes[i, 1] + boxes[i, 3]):
        for row in reversed(rows[-ROW_LOOKBACK_ROWS:]):
            if all(_side_by_side(boxes[index], boxes[other]) for other in row):
                row.append(index)
                break
        else:
            rows.append([index])
    return [sorted(row, key=lambda i: boxes[i, 0]) for row in rows]


def _side_by_side(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether two boxes overlap vertically, by half of the lower one's height, and hardly horizontally."""
    vertical = min(a[3], b[3]) - max(a[1], b[1])
    horizontal = min(a[2], b[2]) - max(a[0], b[0])
    same_height = vertical >= ROW_MIN_OVERLAP_RATIO * min(a[3] - a[1], b[3] - b[1])
    return bool(same_height and horizontal < ROW_MAX_OVERLAP_RATIO * min(a[2] - a[0], b[2] - b[0]))

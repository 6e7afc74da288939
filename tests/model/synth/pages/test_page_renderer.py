"""Page renderer: pages by index, and the positions of their lines."""

import numpy as np
import pytest

from linewise.model.synth.pages.page_renderer import KINDS, PageRenderer, PageSample
from linewise.model.synth.sources.fonts import Face


@pytest.fixture(scope="module")
def pages(faces: list[Face]) -> dict[str, PageSample]:
    return {kind: PageRenderer(faces, seed=5, kinds={kind: 1}).sample(1) for kind in KINDS}


def test_every_kind_of_page_is_drawn_with_its_lines_in_it(pages: dict[str, PageSample]) -> None:
    for kind, page in pages.items():
        assert page.kind == kind
        assert page.image.dtype == np.uint8 and page.image.ndim == 2
        assert bool(page.lines) == (kind != "nothing")
        for line in page.lines:
            assert line.text.strip() and line.quad.shape == (4, 2)
            # A tilted page may lose a corner at the edge of the image, but no more.
            x, y = line.quad.mean(0)
            assert -0.1 * page.image.shape[1] < x < 1.1 * page.image.shape[1]
            assert -0.1 * page.image.shape[0] < y < 1.1 * page.image.shape[0]


def test_an_index_renders_the_same_page_at_every_call(faces: list[Face]) -> None:
    page, again = PageRenderer(faces, seed=2).sample(7), PageRenderer(faces, seed=2).sample(7)
    assert np.array_equal(page.image, again.image)
    assert [line.text for line in page.lines] == [line.text for line in again.lines]
    assert not np.array_equal(page.image, PageRenderer(faces, seed=3).sample(7).image)


_ENDS = (slice(None, 8), slice(-8, None))


def test_there_is_ink_at_the_labelled_lines(pages: dict[str, PageSample]) -> None:
    page = pages["letter"]
    inside = []
    for line in page.lines:
        (left, top), (right, bottom) = line.quad.min(0), line.quad.max(0)
        part = page.image[max(0, int(top)) : int(bottom) + 1, max(0, int(left)) : int(right) + 1]
        inside.append(float(part.std()) if part.size else 0.0)
    # Of the surface or the paper; an edge or a shadow may lie in some of the corners.
    margins = [float(page.image[rows, columns].std()) for rows in _ENDS for columns in _ENDS]
    assert np.median(inside) > 4 * min(margins) + 4

"""Windows of drawn pages, the samples of the line detector's training."""

import math
import multiprocessing as mp
import os
import queue
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np
import torch

from linewise.model.page.geometry import quad_size
from linewise.model.synth.background import Grey
from linewise.model.synth.pages.page_renderer import PageRenderer, PageSample
from linewise.model.synth.sources.fonts import Face
from linewise.model.train.detection.db_targets import DbTargets, db_targets

WINDOW_SIZE_PX = 640
LINE_HEIGHT_RANGE_PX = (9, 48)
DEFAULT_LINE_HEIGHT_PX = 20.0  # of a page without lines
MAX_PAGE_SIDE_PX = 4096
OVER_LINE_SHARE = 0.8  # of the windows: most of a large page is empty
SIDEWAYS_SHARE = 0.08
INVERTED_SHARE = 0.1


@dataclass
class Window:
    """A piece of a page, grey uint8 `(WINDOW_SIZE_PX, WINDOW_SIZE_PX)`, its targets, and its number of uses."""

    image: Grey
    targets: DbTargets
    uses: int = 0


def cut_window(random: Random, page: PageSample) -> Window:
    """A piece of a page, scaled so that its lines have a height in `LINE_HEIGHT_RANGE_PX`."""
    scale = _random_scale(random, page)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(page.image, None, fx=scale, fy=scale, interpolation=method)
    left, top = _random_corner(random, page, scale, image.shape[0], image.shape[1])
    part = image[top : top + WINDOW_SIZE_PX, left : left + WINDOW_SIZE_PX]
    below, right = WINDOW_SIZE_PX - part.shape[0], WINDOW_SIZE_PX - part.shape[1]
    above, before = random.randint(0, below), random.randint(0, right)
    part = cv2.copyMakeBorder(part, above, below - above, before, right - before, cv2.BORDER_REPLICATE)
    offset = np.array([before - left, above - top], np.float32)
    quads = [np.asarray((line.quad + 0.5) * scale - 0.5 + offset, np.float32) for line in page.lines]
    if random.random() < SIDEWAYS_SHARE:
        part = cv2.rotate(part, cv2.ROTATE_90_CLOCKWISE)
        quads = [np.stack([WINDOW_SIZE_PX - 1 - q[:, 1], q[:, 0]], 1) for q in quads]
    if random.random() < INVERTED_SHARE:
        part = 255 - part
    return Window(np.ascontiguousarray(part), db_targets(quads, WINDOW_SIZE_PX, WINDOW_SIZE_PX))


def _random_scale(random: Random, page: PageSample) -> float:
    heights = [min(quad_size(line.quad)) for line in page.lines] or [DEFAULT_LINE_HEIGHT_PX]
    low, high = LINE_HEIGHT_RANGE_PX
    scale = math.exp(random.uniform(math.log(low), math.log(high))) / max(float(np.median(heights)), 1.0)
    return float(min(max(scale, 0.3), 2.0, MAX_PAGE_SIDE_PX / max(page.image.shape)))


def _random_corner(random: Random, page: PageSample, scale: float, rows: int, columns: int) -> tuple[int, int]:
    """Left and top of a window, mostly near a line."""
    if page.lines and random.random() < OVER_LINE_SHARE:
        x, y = random.choice(page.lines).quad.mean(0) * scale
        x, y = (centre + random.uniform(-0.45, 0.45) * WINDOW_SIZE_PX for centre in (x, y))
    else:
        x, y = random.uniform(0, columns), random.uniform(0, rows)
    half = WINDOW_SIZE_PX / 2
    left = round(min(max(x - half, 0), max(0, columns - WINDOW_SIZE_PX)))
    return left, round(min(max(y - half, 0), max(0, rows - WINDOW_SIZE_PX)))


class WindowLoader:
    """A pool of windows that renderer processes fill, `windows_per_page` from each page.

    A window leaves the pool after `replay` uses.
    """

    def __init__(
        self, faces: Sequence[Face], *, seed: int, workers: int, windows_per_page: int, replay: int, pool: int
    ) -> None:
        self.pages = 0
        self.replay, self.pool = replay, pool
        self._pool: deque[Window] = deque()
        context = mp.get_context("spawn")  # a fork would inherit the threads of torch in an unknown state
        self._drawn: mp.Queue[list[Window]] = context.Queue(16)
        self._workers = [
            context.Process(
                target=_draw_for_ever, args=(faces, windows_per_page, seed, start, workers, self._drawn), daemon=True
            )
            for start in range(workers)
        ]
        for worker in self._workers:
            worker.start()

    def __enter__(self) -> "WindowLoader":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.terminate()
        self._drawn.cancel_join_thread()

    def batch(self, random: Random, count: int) -> list[Window]:
        """So many windows of the pool; waits only while the pool is nearly empty.

        Raises:
            RuntimeError: a renderer process has died.
        """
        self._fill(max(count, self.pool // 10))
        chosen = random.sample(range(len(self._pool)), count)
        batch = [self._pool[index] for index in chosen]
        for window in batch:
            window.uses += 1
        for index in sorted(chosen, reverse=True):
            if self._pool[index].uses >= self.replay:
                del self._pool[index]
        return batch

    def _fill(self, least: int) -> None:
        while len(self._pool) < self.pool:
            short = len(self._pool) < least
            try:
                self._pool.extend(self._drawn.get(timeout=1.0) if short else self._drawn.get_nowait())
                self.pages += 1
            except queue.Empty:
                if not short:
                    return
                if not all(worker.is_alive() for worker in self._workers):
                    raise RuntimeError("a renderer process has died; its error stands above") from None


def _draw_for_ever(
    faces: Sequence[Face], windows: int, seed: int, start: int, step: int, out: "mp.Queue[list[Window]]"
) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    os.nice(5)
    pages, random, index = PageRenderer(faces, seed), Random(f"{seed} {start}"), start
    while True:
        page = pages.sample(index)
        out.put([cut_window(random, page) for _ in range(windows)])
        index += step

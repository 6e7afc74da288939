"""Samples for ever: renderer processes fill a pool, from which batches of one width are drawn."""

import contextlib
import math
import multiprocessing as mp
import os
import queue
import random
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linewise.model.network.config import ModelConfig
from linewise.model.recognition.preprocess import scale
from linewise.model.synth.renderer import Renderer
from linewise.model.synth.sources.fonts import Face

Scaled = NDArray[np.uint8]

# Natural logarithm of a probability, negated: what is read right with 9 of 10 chances has been learnt.
LEARNT = 0.1

CHUNK = 32  # samples a message: few enough to arrive soon, enough to make the pipe's cost small


@dataclass
class Drawn:
    """A sample scaled by `preprocess`, its text, its kind, how often it was used, and its last CTC loss."""

    image: Scaled
    text: str
    kind: str
    uses: int = 0
    loss: float = math.inf


def _draw(renderer: Renderer, config: ModelConfig, index: int) -> Drawn | None:
    sample = renderer.sample(index)
    image = scale(config, sample.image)
    # CTC needs a column for every character and one more between equal neighbours.
    doubles = sum(a == b for a, b in zip(sample.text, sample.text[1:], strict=False))
    if image.shape[1] > config.widths[-1] or image.shape[1] // 4 < len(sample.text) + doubles:
        return None
    return Drawn(image, sample.text, sample.kind)


def _work(
    faces: Sequence[Face], config: ModelConfig, seed: int, easy: int, start: int, step: int,
    out: "mp.Queue[list[Drawn]]",
) -> None:  # fmt: skip
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    os.nice(10)
    renderer = Renderer(faces, seed, easy)
    index = start
    while True:
        chunk: list[Drawn] = []
        while len(chunk) < CHUNK:
            drawn = _draw(renderer, config, index)
            index += step
            if drawn is not None:
                chunk.append(drawn)
        out.put(chunk)


class Stream:
    """Batches of equally wide samples, drawn by `workers` processes (0: in this one).

    A sample that was not read surely comes back, up to `replay` uses, after the fresh ones; what the
    net can read already teaches it nothing. Drawing waits while `pool` samples are
    held, so that it takes no more of the machine than training can use. `seen` counts drawn samples
    and is all that a resumed run needs.
    """

    def __init__(
        self, faces: Sequence[Face], config: ModelConfig, *, seed: int, seen: int = 0, easy_until: int = 0,
        workers: int = 1, replay: int = 3, pool: int = 6000,
    ) -> None:  # fmt: skip
        self.config = config
        self.seen = seen
        self.replay = replay
        self.pool = pool
        self._random = random.Random(seed + seen)
        self._fresh: dict[int, deque[Drawn]] = {}
        self._used: dict[int, deque[Drawn]] = {}
        self._workers: list[mp.process.BaseProcess] = []
        self._closed = threading.Event()
        self._renderer = Renderer(faces, seed, easy_until) if workers == 0 else None
        context = mp.get_context("spawn")
        self._queue: mp.Queue[list[Drawn]] = context.Queue(maxsize=max(4, 2 * workers))
        for worker in range(workers):
            process = context.Process(
                target=_work,
                args=(faces, config, seed, easy_until, seen + worker, workers, self._queue),
                daemon=True,
            )
            process.start()
            self._workers.append(process)
        # A chunk arrives in pieces, whenever its renderer finds the time to send one: a thread of its own
        # waits for them, so that training does not.
        self._received: queue.Queue[list[Drawn]] = queue.Queue(maxsize=8)
        if self._workers:
            threading.Thread(target=self._receive, name="receive", daemon=True).start()

    def _held(self) -> int:
        return sum(map(len, self._fresh.values())) + sum(map(len, self._used.values()))

    def _receive(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Empty):
                self._received.put(self._queue.get(timeout=1.0))

    def _take_in(self, wait: bool) -> None:
        """Moves what the renderers have drawn into the pool; with `wait`, at least one chunk.

        Raises:
            RuntimeError: a renderer process has died.
        """
        if self._renderer is not None:
            while self._held() < self.pool:
                drawn = _draw(self._renderer, self.config, self.seen)
                self.seen += 1
                if drawn is not None:
                    self._fresh.setdefault(drawn.image.shape[1], deque()).append(drawn)
            return
        while wait or self._held() < self.pool:
            try:
                chunk = self._received.get(timeout=5.0) if wait else self._received.get_nowait()
            except queue.Empty:
                if not all(process.is_alive() for process in self._workers):
                    raise RuntimeError("a renderer process has died; its error stands above") from None
                if not wait:
                    return
                continue
            wait = False
            self.seen += len(chunk)
            for drawn in chunk:
                self._fresh.setdefault(drawn.image.shape[1], deque()).append(drawn)

    def batch(self, pixels: int, largest: int) -> list[Drawn]:
        """A batch of one width, at most `pixels` wide in all and `largest` samples."""
        self._take_in(wait=self._held() < min(self.pool, 2 * largest))
        shelf = self._fresh if self._ready(self._fresh, pixels, largest) else self._used
        if not self._ready(shelf, pixels, largest):
            shelf = self._fresh if any(self._fresh.values()) else self._used
        widths = [w for w in shelf if shelf[w]]
        full = [w for w in widths if len(shelf[w]) >= self._size(w, pixels, largest)] or widths
        width = self._random.choices(full, weights=[len(shelf[w]) * w for w in full])[0]
        pile = shelf[width]
        chosen = [pile.popleft() for _ in range(min(self._size(width, pixels, largest), len(pile)))]
        return chosen

    def give_back(self, batch: Sequence[Drawn]) -> None:
        """Takes a batch that was trained on; what is worth another look will be drawn from again."""
        for drawn in batch:
            drawn.uses += 1
            if drawn.uses < self.replay and drawn.loss > LEARNT:
                self._used.setdefault(drawn.image.shape[1], deque()).append(drawn)

    def _size(self, width: int, pixels: int, largest: int) -> int:
        return max(1, min(largest, pixels // width))

    def _ready(self, shelf: dict[int, deque[Drawn]], pixels: int, largest: int) -> bool:
        return any(len(pile) >= self._size(width, pixels, largest) for width, pile in shelf.items())

    def close(self) -> None:
        """Ends the renderer processes."""
        self._closed.set()
        for process in self._workers:
            process.terminate()
        for process in self._workers:
            process.join(timeout=5)

"""Batches of equally wide samples, from shards on disk, renderer processes or this process."""

import contextlib
import multiprocessing as mp
import os
import queue
import random
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from linewise.model.network.config import ModelConfig
from linewise.model.synth.renderer import Renderer
from linewise.model.synth.sources.fonts import Face
from linewise.model.train.data.mixture import Mixture
from linewise.model.train.data.samples import TrainingSample
from linewise.model.train.data.shards import ShardFolder

# Nats. A text read with a probability above 0.9 has been learnt and is not repeated.
LEARNT_LOSS = 0.1

CHUNK_SAMPLES = 32  # per message of a renderer: few enough to arrive soon, enough to make the pipe's cost small

Piles = dict[int, deque[TrainingSample]]


class SampleSource(Protocol):
    """A supply of samples without end. `drawn` counts the sample numbers it has gone through."""

    drawn: int

    def get(self, wait: bool) -> list[TrainingSample]:
        """The next samples; an empty list only where none are ready and `wait` is false."""

    def close(self) -> None:
        """Release processes and files."""


class InProcessSource:
    """Samples drawn in the training process, for tests and short runs."""

    def __init__(self, mixture: Mixture, drawn: int = 0) -> None:
        self.mixture = mixture
        self.drawn = drawn

    def get(self, wait: bool) -> list[TrainingSample]:
        """One sample that the network can learn."""
        while True:
            sample = self.mixture.sample(self.drawn)
            self.drawn += 1
            if sample is not None:
                return [sample]

    def close(self) -> None:
        """Nothing to release."""


class ShardSource:
    """Samples of a folder of shards, read in a thread of their own; old shards again where no new one is ready."""

    def __init__(self, shards: ShardFolder, drawn: int = 0) -> None:
        self.shards = shards
        self.drawn = drawn
        self._pending: queue.Queue[list[TrainingSample] | Exception] = queue.Queue(maxsize=1)
        self._closed = threading.Event()
        threading.Thread(target=self._read, name="read-shards", daemon=True).start()

    def _read(self) -> None:
        while not self._closed.is_set():
            try:
                item: list[TrainingSample] | Exception = self.shards.next()
            except (RuntimeError, OSError) as error:
                item = error
            while not self._closed.is_set():
                with contextlib.suppress(queue.Full):
                    self._pending.put(item, timeout=1.0)
                    break

    def get(self, wait: bool) -> list[TrainingSample]:
        """The samples of one shard.

        Raises:
            RuntimeError: the folder has no readable shard.
        """
        try:
            item = self._pending.get() if wait else self._pending.get_nowait()
        except queue.Empty:
            return []
        if isinstance(item, Exception):
            raise RuntimeError(str(item)) from item
        self.drawn += len(item)
        return item

    def close(self) -> None:
        """End the reading thread."""
        self._closed.set()


def _draw_for_ever(
    mixture: Mixture, start: int, step: int, out: "mp.Queue[list[TrainingSample]]"
) -> None:  # in a renderer process
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    os.nice(10)
    index = start
    while True:
        chunk: list[TrainingSample] = []
        while len(chunk) < CHUNK_SAMPLES:
            sample = mixture.sample(index)
            index += step
            if sample is not None:
                chunk.append(sample)
        out.put(chunk)


class ProcessSource:
    """Samples drawn by renderer processes, which wait while nothing is taken from them."""

    def __init__(self, mixture: Mixture, workers: int, drawn: int = 0) -> None:
        self.drawn = drawn
        self._closed = threading.Event()
        context = mp.get_context("spawn")
        self._queue: mp.Queue[list[TrainingSample]] = context.Queue(maxsize=max(4, 2 * workers))
        self._processes = [
            context.Process(target=_draw_for_ever, args=(mixture, drawn + i, workers, self._queue), daemon=True)
            for i in range(workers)
        ]
        for process in self._processes:
            process.start()
        # A chunk arrives in pieces whenever its renderer finds the time; a thread waits, so that training does not.
        self._received: queue.Queue[list[TrainingSample]] = queue.Queue(maxsize=8)
        threading.Thread(target=self._receive, name="receive", daemon=True).start()

    def _receive(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Empty):
                self._received.put(self._queue.get(timeout=1.0))

    def get(self, wait: bool) -> list[TrainingSample]:
        """One chunk of a renderer.

        Raises:
            RuntimeError: a renderer process has died.
        """
        while True:
            try:
                chunk = self._received.get(timeout=5.0) if wait else self._received.get_nowait()
            except queue.Empty:
                if not all(process.is_alive() for process in self._processes):
                    raise RuntimeError("a renderer process has died; its error stands above") from None
                if not wait:
                    return []
                continue
            self.drawn += len(chunk)
            return chunk

    def close(self) -> None:
        """End the renderer processes."""
        self._closed.set()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(timeout=5)


class SampleLoader:
    """Batches of one width from a pool of samples.

    A sample returns after the fresh ones, up to `replay` uses, while its loss is above `LEARNT_LOSS`. Drawing
    waits while the pool holds `pool` samples.
    """

    def __init__(self, source: SampleSource, *, seed: int = 0, replay: int = 3, pool: int = 6000) -> None:
        self.source = source
        self.replay = replay
        self.pool = pool
        self._random = random.Random(seed + source.drawn)
        self._fresh: Piles = {}
        self._used: Piles = {}

    @property
    def drawn(self) -> int:
        """Samples taken from the source so far; what a resumed run goes on from."""
        return self.source.drawn

    def _held(self) -> int:
        return sum(map(len, self._fresh.values())) + sum(map(len, self._used.values()))

    def _fill(self, wait: bool) -> None:
        """Move samples from the source into the pool; with `wait`, at least one chunk."""
        while wait or self._held() < self.pool:
            chunk = self.source.get(wait)
            if not chunk:
                return
            wait = False
            for sample in chunk:
                self._fresh.setdefault(sample.image.shape[1], deque()).append(sample)

    def batch(self, pixels: int, largest: int) -> list[TrainingSample]:
        """A batch of one width, at most `pixels` wide in all and `largest` samples."""
        self._fill(wait=self._held() < min(self.pool, 2 * largest))
        piles = self._fresh if self._ready(self._fresh, pixels, largest) else self._used
        if not self._ready(piles, pixels, largest):
            piles = self._fresh if any(self._fresh.values()) else self._used
        widths = [w for w in piles if piles[w]]
        full = [w for w in widths if len(piles[w]) >= self._size(w, pixels, largest)] or widths
        width = self._random.choices(full, weights=[len(piles[w]) * w for w in full])[0]
        pile = piles[width]
        return [pile.popleft() for _ in range(min(self._size(width, pixels, largest), len(pile)))]

    def give_back(self, batch: Sequence[TrainingSample]) -> None:
        """Return a batch after its training step; what is not learnt yet is used again."""
        for sample in batch:
            sample.uses += 1
            if sample.uses < self.replay and sample.loss > LEARNT_LOSS:
                self._used.setdefault(sample.image.shape[1], deque()).append(sample)

    def _size(self, width: int, pixels: int, largest: int) -> int:
        return max(1, min(largest, pixels // width))

    def _ready(self, piles: Piles, pixels: int, largest: int) -> bool:
        return any(len(pile) >= self._size(width, pixels, largest) for width, pile in piles.items())

    def close(self) -> None:
        """Close the source."""
        self.source.close()


def open_source(
    faces: Sequence[Face], config: ModelConfig, *, seed: int, drawn: int = 0, easy_until: int = 0, workers: int = 1
) -> SampleSource:
    """Drawn samples from `workers` renderer processes, or from this process where that is 0."""
    mixture = Mixture(config, Renderer(faces, seed, easy_until))
    return ProcessSource(mixture, workers, drawn) if workers else InProcessSource(mixture, drawn)

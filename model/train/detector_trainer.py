"""Trains the detector of lines on windows of rendered pages, for as long as it is told."""

import copy
import json
import math
import multiprocessing as mp
import os
import queue
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from linewise.model.network.checkpoint import save
from linewise.model.page.detector import Detector, DetectorConfig
from linewise.model.page.geometry import quad_size
from linewise.model.recognition.preprocess import to_tensor
from linewise.model.synth.background import Grey
from linewise.model.synth.pages.page_renderer import PageRenderer, PageSample
from linewise.model.synth.sources.fonts import Face, find_faces
from linewise.model.train.averaging import follow
from linewise.model.train.db_targets import Targets, targets
from linewise.model.train.interrupt import interruptible

WINDOW = 640  # pixels on each side of what is learnt from
STEEPNESS = 50.0  # of the binarisation, as in the paper
NEGATIVES = 3  # hardest cells outside of kernels that count for each one inside


@dataclass(frozen=True)
class PageRecipe:
    """Sizes and rates of a run: `batch` windows a step, `windows` from each page, each used `replay` times.

    The rate rises over `warmup` steps and falls along a cosine to nothing at the end. `ema` is the
    averaging factor of the weights that are kept.
    """

    model: DetectorConfig = field(default_factory=DetectorConfig)
    rate: float = 2e-3
    weight_decay: float = 0.01
    clip: float = 5.0
    batch: int = 4
    windows: int = 2
    replay: int = 5
    pool: int = 400
    warmup: int = 100
    ema: float = 0.998
    save_every: float = 120.0


@dataclass
class Window:
    """A piece of a page, grey uint8 `(WINDOW, WINDOW)`, its targets, and how often it was used."""

    image: Grey
    targets: Targets
    used: int = 0


def window(random: Random, page: PageSample) -> Window:
    """A piece of a page at a scale at which its lines are 9 to 48 pixels high, sometimes on its side."""
    height = float(np.median([min(quad_size(line.quad)) for line in page.lines])) if page.lines else 20.0
    scale = math.exp(random.uniform(math.log(9), math.log(48))) / max(height, 1.0)
    scale = min(max(scale, 0.3), 2.0, 4096 / max(page.image.shape))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(page.image, None, fx=scale, fy=scale, interpolation=method)
    rows, columns = image.shape
    # Over a line, as often as not: most of a large page is empty.
    if page.lines and random.random() < 0.8:
        x, y = random.choice(page.lines).quad.mean(0) * scale
        x, y = x + random.uniform(-0.45, 0.45) * WINDOW, y + random.uniform(-0.45, 0.45) * WINDOW
    else:
        x, y = random.uniform(0, columns), random.uniform(0, rows)
    left = round(min(max(x - WINDOW / 2, 0), max(0, columns - WINDOW)))
    top = round(min(max(y - WINDOW / 2, 0), max(0, rows - WINDOW)))
    part = image[top : top + WINDOW, left : left + WINDOW]
    below, right = WINDOW - part.shape[0], WINDOW - part.shape[1]
    above, before = random.randint(0, below), random.randint(0, right)
    part = cv2.copyMakeBorder(part, above, below - above, before, right - before, cv2.BORDER_REPLICATE)
    moved = np.array([before - left, above - top], np.float32)
    quads = [np.asarray((line.quad + 0.5) * scale - 0.5 + moved, np.float32) for line in page.lines]
    if random.random() < 0.08:  # a quarter turn: lines on their side are lines
        part = cv2.rotate(part, cv2.ROTATE_90_CLOCKWISE)
        quads = [np.stack([WINDOW - 1 - q[:, 1], q[:, 0]], 1) for q in quads]
    if random.random() < 0.1:
        part = 255 - part
    return Window(np.ascontiguousarray(part), targets(quads, WINDOW, WINDOW))


def loss(logits: torch.Tensor, wanted: Sequence[Targets]) -> torch.Tensor:
    """The sum of three: cross-entropy of the kernels over all of them and the hardest other cells, the
    Dice loss of the binarised map, and the mean error of the threshold near the rims.

    `logits` are float `(B, 2, h, w)`, kernel and threshold.
    """

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(t, name) for t in wanted])).to(logits.device).float() / 255

    is_kernel, border, near, counts = (stacked(name) for name in ("kernel", "border", "near", "counts"))
    kernel, threshold = logits.float().unbind(1)
    each = F.binary_cross_entropy_with_logits(kernel, is_kernel, reduction="none") * counts
    inside = (is_kernel > 0.5).float() * counts
    number = int(inside.sum())
    outside = (each * (1 - inside)).flatten()
    hardest = outside.topk(min(outside.numel(), max(NEGATIVES * number, 1024))).values
    entropy = ((each * inside).sum() + hardest.sum()) / (number + len(hardest))
    limit = threshold.sigmoid()
    error = ((limit - border).abs() * near).sum() / near.sum().clamp_min(1)
    binary = torch.sigmoid(STEEPNESS * (kernel.sigmoid() - limit)) * counts
    truth = is_kernel * counts
    dice = 1 - (2 * (binary * truth).sum() + 1) / (binary.sum() + truth.sum() + 1)
    return entropy + dice + error


def train_pages(
    recipe: PageRecipe, minutes: float, out: Path, *, start: Detector | None = None, seed: int = 0,
    steps: int | None = None, workers: int = 1, console: Console | None = None,
) -> Detector:  # fmt: skip
    """Trains for `minutes` (or `steps`), with the averaged weights and a log in `out`; returns the average.

    `start` is gone on from. A SIGINT or SIGTERM ends the run after the step in progress, all saved.

    Raises:
        RuntimeError: no usable font is installed, or a renderer died.
    """
    torch.manual_seed(seed)
    random = Random(seed)
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = (copy.deepcopy(start) if start else Detector(recipe.model)).to(device).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).eval()
    optimiser = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
    faces = [face for face in find_faces() if not face.held_out]
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    begun = saved = time.monotonic()
    smooth = math.nan
    with (
        interruptible() as interrupted,
        Windows(faces, recipe, seed, workers) as windows,
        Progress(*columns, console=console) as progress,
    ):
        task = progress.add_task("training", total=1.0)
        for step in range(steps or 10**9):
            fraction = step / steps if steps else (time.monotonic() - begun) / (60 * minutes)
            if interrupted() or fraction >= 1:
                break
            rate = recipe.rate * min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * fraction))
            for group in optimiser.param_groups:
                group["lr"] = rate
            batch = windows.batch(random)
            images = to_tensor([w.image for w in batch], device).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16):
                logits = model(images)
            value = loss(logits, [w.targets for w in batch])
            optimiser.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimiser.step()
            follow(average, model, min(recipe.ema, (1 + step) / (10 + step)))
            now = float(value.detach())
            if not math.isfinite(now):
                raise RuntimeError(f"the loss became {now} at step {step}: begin again at a lower rate")
            smooth = now if math.isnan(smooth) else smooth + 0.02 * (now - smooth)
            progress.update(task, completed=fraction, description=f"step {step}  loss {smooth:.3f}")
            if step % 50 == 0:
                seconds = round(time.monotonic() - begun, 1)
                with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                    entry = {"step": step, "pages": windows.pages, "seconds": seconds, "loss": round(smooth, 4)}
                    log.write(json.dumps(entry) + "\n")
            if time.monotonic() - saved > recipe.save_every:
                save(average, out / "weights.safetensors")
                saved = time.monotonic()
    save(average, out / "weights.safetensors")
    return average


class Windows:
    """A pool of windows that renderer processes fill; those used up make room."""

    def __init__(self, faces: Sequence[Face], recipe: PageRecipe, seed: int, workers: int) -> None:
        self.recipe = recipe
        self.pages = 0
        self._pool: deque[Window] = deque()
        context = mp.get_context("spawn")  # a fork would inherit the threads of torch in an unknown state
        self._drawn: mp.Queue[list[Window]] = context.Queue(16)
        self._workers = [
            context.Process(target=_draw, args=(faces, recipe.windows, seed, start, workers, self._drawn), daemon=True)
            for start in range(workers)
        ]
        for worker in self._workers:
            worker.start()

    def __enter__(self) -> "Windows":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.terminate()
        self._drawn.cancel_join_thread()

    def batch(self, random: Random) -> list[Window]:
        """Windows of the pool, those used up dropped; waits only while there are too few."""
        while True:
            short = len(self._pool) < max(self.recipe.batch, self.recipe.pool // 10)
            try:
                self._pool.extend(self._drawn.get(timeout=1.0) if short else self._drawn.get_nowait())
                self.pages += 1
            except queue.Empty:
                if not short:
                    break
                if not all(worker.is_alive() for worker in self._workers):
                    raise RuntimeError("a renderer of pages died") from None
            if len(self._pool) >= self.recipe.pool:
                break
        chosen = random.sample(range(len(self._pool)), self.recipe.batch)
        batch = [self._pool[index] for index in chosen]
        for used in batch:
            used.used += 1
        for index in sorted(chosen, reverse=True):
            if self._pool[index].used >= self.recipe.replay:
                del self._pool[index]
        return batch


def _draw(faces: Sequence[Face], number: int, seed: int, start: int, step: int, out: "mp.Queue[list[Window]]") -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    os.nice(5)
    pages, random, index = PageRenderer(faces, seed), Random(f"{seed} {start}"), start
    while True:
        page = pages.sample(index)
        out.put([window(random, page) for _ in range(number)])
        index += step

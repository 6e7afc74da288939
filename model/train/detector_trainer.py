"""Training of the line detector on windows of drawn pages."""

import copy
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from linewise.model.network.checkpoint import save
from linewise.model.network.config import DetectorConfig
from linewise.model.network.detector import Detector
from linewise.model.recognition.preprocess import to_tensor
from linewise.model.synth.sources.fonts import find_faces
from linewise.model.train.averaging import update_ema
from linewise.model.train.detection.db_loss import db_loss
from linewise.model.train.detection.windows import Window, WindowLoader
from linewise.model.train.environment import interruptible, mixed_precision

LOG_PERIOD_STEPS = 50
LOSS_EMA_DECAY = 0.98  # of the loss that is shown and logged


@dataclass(frozen=True)
class DetectorRecipe:
    """Sizes and rates of a run: `batch` windows a step, `windows` from each page, each used `replay` times.

    The rate rises over `warmup` steps and falls along a cosine to 0 at the end. `ema` is the decay of the
    averaged weights, which are the ones kept.
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


class DetectorTrainer:
    """Detector, optimiser and averaged weights of a run."""

    def __init__(self, recipe: DetectorRecipe, start: Detector | None, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.model = (copy.deepcopy(start) if start else Detector(recipe.model)).to(device).train()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
        self.steps = 0
        self.smoothed_loss = math.nan

    def step(self, batch: Sequence[Window], fraction: float) -> None:
        """One step of the optimiser; `fraction` in [0, 1] is the progress of the run.

        Raises:
            RuntimeError: the loss is not finite.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.recipe, self.steps, fraction)
        images = to_tensor([window.image for window in batch], self.device)
        with mixed_precision(self.device):
            logits = self.model(images.contiguous(memory_format=torch.channels_last))
        loss = db_loss(logits, [window.targets for window in batch])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimiser.step()
        update_ema(self.average, self.model, min(self.recipe.ema, (1 + self.steps) / (10 + self.steps)))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RuntimeError(f"the loss became {value} at step {self.steps}: begin again at a lower rate")
        first = math.isnan(self.smoothed_loss)
        self.smoothed_loss = value if first else value + LOSS_EMA_DECAY * (self.smoothed_loss - value)
        self.steps += 1


def rate_at(recipe: DetectorRecipe, step: int, fraction: float) -> float:
    """Learning rate: linear warm-up by steps, then a cosine over the whole run."""
    return recipe.rate * min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * fraction))


def train_detector(
    recipe: DetectorRecipe, minutes: float, out: Path, *, start: Detector | None = None, seed: int = 0,
    steps: int | None = None, workers: int = 1, console: Console | None = None,
) -> Detector:  # fmt: skip
    """Train for `minutes` (or `steps`) and return the averaged weights, which are left in `out` with a log.

    A SIGINT or SIGTERM ends the run after the step in progress, with everything saved.

    Raises:
        RuntimeError: no usable font is installed, a renderer died, or the loss is not finite.
    """
    torch.manual_seed(seed)
    random = Random(seed)
    out.mkdir(parents=True, exist_ok=True)
    trainer = DetectorTrainer(recipe, start, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    faces = [face for face in find_faces() if not face.held_out]
    loader = WindowLoader(
        faces, seed=seed, workers=workers, windows_per_page=recipe.windows, replay=recipe.replay, pool=recipe.pool
    )
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    begun = saved = time.monotonic()
    with interruptible() as interrupted, loader, Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=1.0)
        while not interrupted():
            fraction = trainer.steps / steps if steps else (time.monotonic() - begun) / (60 * minutes)
            if fraction >= 1:
                break
            trainer.step(loader.batch(random, recipe.batch), fraction)
            described = f"step {trainer.steps}  loss {trainer.smoothed_loss:.3f}"
            progress.update(task, completed=fraction, description=described)
            if trainer.steps % LOG_PERIOD_STEPS == 1:
                _log(out, trainer, loader.pages, time.monotonic() - begun)
            if time.monotonic() - saved > recipe.save_every:
                save(trainer.average, out / "weights.safetensors")
                saved = time.monotonic()
    save(trainer.average, out / "weights.safetensors")
    return trainer.average


def _log(out: Path, trainer: DetectorTrainer, pages: int, seconds: float) -> None:
    entry = {"step": trainer.steps - 1, "pages": pages, "seconds": round(seconds, 1),
             "loss": round(trainer.smoothed_loss, 4)}  # fmt: skip
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")

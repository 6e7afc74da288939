"""The training run, read from top to bottom: draw, step, average, log, validate, save, resume."""

import copy
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from linewise.model.evaluation.datasets import dataset_metric
from linewise.model.evaluation.recognition import evaluate
from linewise.model.network.charset import Charset
from linewise.model.network.checkpoint import load_model, save
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.recognition.preprocess import to_tensor
from linewise.model.recognition.reader import Reader
from linewise.model.synth.sources.fonts import find_faces
from linewise.model.train.augment import augment
from linewise.model.train.averaging import follow
from linewise.model.train.interrupt import interruptible
from linewise.model.train.recipe import Recipe
from linewise.model.train.sample_loader import Drawn, Stream

SAVE_EVERY = 120.0  # seconds: what a cut costs at most
LOG_EVERY = 10.0  # seconds between two lines of the log


@dataclass
class Progression:
    """Where a run stands; part of the resume file."""

    step: int = 0
    used: int = 0
    drawn: int = 0
    seconds: float = 0.0


class Training:
    """Model, optimiser, average and progress of a run, saved and restored as one."""

    def __init__(self, recipe: Recipe, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        self.recipe, self.device, self.seed = recipe, device, seed
        self.model = CRNN(recipe.model).to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval()
        self.at = Progression()
        self.charset = Charset(recipe.model.alphabet)
        self.generator = torch.Generator(device).manual_seed(seed)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=recipe.rate, betas=(0.9, 0.98),
        )  # fmt: skip

    def start_from(self, weights: Path) -> None:
        """Takes the tensors of a checkpoint of the same configuration; the optimiser starts anew.

        Raises:
            ValueError: the checkpoint's network has another shape than the recipe's.
        """
        other, _ = load_model(weights, self.device)
        if (other.config.channels, other.config.hidden) != (self.recipe.model.channels, self.recipe.model.hidden):
            raise ValueError(f"{weights} holds a network of another shape than the recipe {self.recipe.name}")
        self.model.load_state_dict(other.state_dict())
        self.average.load_state_dict(other.state_dict())

    def loss(self, drawn: Sequence[Drawn]) -> torch.Tensor:
        """Mean CTC loss per character of a batch; logits in bf16, the loss itself in fp32.

        Notes each sample's own loss, of its whole text, in the sample.
        """
        images = augment(to_tensor([d.image for d in drawn], self.device), self.generator)
        images = images.contiguous(memory_format=torch.channels_last)
        targets = [self.charset.encode(d.text) for d in drawn]
        lengths = torch.tensor([len(t) for t in targets])
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.model(images)
        steps = torch.full((len(drawn),), logits.shape[1], dtype=torch.long)
        flat = torch.tensor([i for t in targets for i in t], dtype=torch.long)
        log_probs = logits.float().log_softmax(-1).transpose(0, 1)
        losses = F.ctc_loss(log_probs, flat.to(self.device), steps, lengths, reduction="none", zero_infinity=True)
        for sample, loss in zip(drawn, losses.tolist(), strict=True):
            sample.loss = loss
        return (losses / lengths.clamp_min(1).to(self.device)).mean()

    def step(self, drawn: Sequence[Drawn], rate: float) -> float:
        """One step of the optimiser at `rate`; returns the loss before it."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss = self.loss(drawn)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimiser.step()
        self.at.step += 1
        self.at.used += len(drawn)
        # A short memory at first, else the average would long hold the random start.
        follow(self.average, self.model, min(self.recipe.ema, (1 + self.at.step) / (10 + self.at.step)))
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Everything that resuming needs, written beside and moved into place."""
        state = {
            "model": self.model.state_dict(), "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(), "at": asdict(self.at), "seed": self.seed,
            "config": self.recipe.model.to_json(), "recipe": self.recipe.name,
            "generator": self.generator.get_state(), "random": torch.get_rng_state(),
        }  # fmt: skip
        beside = path.with_suffix(".part")
        torch.save(state, beside)
        os.replace(beside, path)

    def restore(self, path: Path) -> None:
        """Goes on where `save` left off.

        Raises:
            ValueError: the file belongs to a run with another network.
        """
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        if ModelConfig.from_json(state["config"]) != self.recipe.model:
            raise ValueError(
                f"{path} belongs to a network of another shape or alphabet than the recipe {self.recipe.name}"
            )
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.at = Progression(**state["at"])
        self.seed = state["seed"]
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["random"].cpu())


def rate_at(recipe: Recipe, step: int, fraction: float) -> float:
    """Learning rate: linear warm-up by steps, then level, then a linear fall over the last share of the time.

    The shape is the warm-up, stable, decay schedule of MiniCPM (Hu et al., 2024); a run can be cut
    and resumed at any point of the level part.
    """
    warm = min(1.0, (step + 1) / recipe.warmup)
    left = (1 - fraction) / recipe.decay if recipe.decay else 1.0
    return recipe.rate * warm * max(0.01, min(1.0, left))


def train(
    recipe: Recipe, minutes: float, out: Path, *, resume: Path | None = None, start: Path | None = None,
    validate: Sequence[Path] = (), seed: int = 0, steps: int | None = None, device: str | None = None,
    console: Console | None = None,
) -> Training:  # fmt: skip
    """Trains for `minutes` (or `steps`) and leaves weights, resume file, log and curve in `out`.

    `resume` goes on with a cut run, `start` begins a new one from a checkpoint's tensors. A SIGINT or
    SIGTERM ends the run after the step in progress with everything saved.

    Raises:
        ValueError: `resume` or `start` does not fit the recipe.
        RuntimeError: no usable font is installed, or a renderer died.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    out.mkdir(parents=True, exist_ok=True)
    run = Training(recipe, where, seed)
    if resume:
        run.restore(resume)
    elif start:
        run.start_from(start)
    faces = [face for face in find_faces() if not face.held_out]
    stream = Stream(
        faces, recipe.model, seed=run.seed, seen=run.at.drawn, easy_until=recipe.easy_until, workers=recipe.workers,
        replay=recipe.replay, pool=recipe.pool,
    )  # fmt: skip
    try:
        with interruptible() as interrupted:
            _run(run, stream, minutes, steps, out, validate, interrupted, console or Console())
    finally:
        stream.close()
    return run


class Journal:
    """What a run says: one JSON object a line in `log.jsonl`, and a line of progress on the console."""

    def __init__(self, run: Training, folder: Path, progress: Progress, seconds: float) -> None:
        self.run = run
        self.path = folder / "log.jsonl"
        self.progress = progress
        self.task = progress.add_task("training", total=seconds)
        self._since, self._used = time.monotonic(), run.at.used
        self._loss = math.nan

    def write(self, **entry: object) -> None:
        """Appends `entry` with the run's position to the log."""
        at = self.run.at
        place = {"step": at.step, "used": at.used, "drawn": at.drawn, "seconds": round(at.seconds, 1)}
        with self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps({**place, **entry}) + "\n")

    def step(self, loss: float, rate: float, elapsed: float, every: float) -> None:
        """Takes note of a step; writes the smoothed loss once in `every` seconds."""
        self._loss = loss if math.isnan(self._loss) else self._loss + 0.02 * (loss - self._loss)
        passed = time.monotonic() - self._since
        if passed < every:
            return
        speed = (self.run.at.used - self._used) / max(passed, 1e-9)
        self.write(loss=round(self._loss, 4), rate=rate, samples_per_s=round(speed, 1))
        described = f"step {self.run.at.step}  loss {self._loss:.3f}  {speed:.0f} samples/s"
        self.progress.update(self.task, completed=elapsed, description=described)
        self._since, self._used = time.monotonic(), self.run.at.used


def _run(
    run: Training, stream: Stream, minutes: float, steps: int | None, out: Path, validate: Sequence[Path],
    cut: Callable[[], bool], console: Console,
) -> None:  # fmt: skip
    recipe, total = run.recipe, minutes * 60
    begun, base, first = time.monotonic(), run.at.seconds, run.at.step
    saved = validated = begun
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        journal = Journal(run, out, progress, total)
        while not cut():
            elapsed = time.monotonic() - begun
            fraction = elapsed / total if steps is None else (run.at.step - first) / steps
            if fraction >= 1:
                break
            rate = rate_at(recipe, run.at.step, fraction)
            batch = stream.batch(recipe.batch_pixels, recipe.largest_batch)
            loss = run.step(batch, rate)
            stream.give_back(batch)
            if not math.isfinite(loss):
                raise RuntimeError(
                    f"the loss became {loss} at step {run.at.step}: resume from the last save at a lower rate"
                )
            run.at.drawn, run.at.seconds = stream.seen, base + time.monotonic() - begun
            journal.step(loss, rate, elapsed, every=0 if steps else LOG_EVERY)
            if time.monotonic() - saved > SAVE_EVERY:
                _keep(run, out)
                saved = time.monotonic()
            if validate and time.monotonic() - validated > recipe.validate_every:
                journal.write(validation=validation(run, validate))
                curve(journal.path, out / "curve.png")
                validated = time.monotonic()
        _keep(run, out)
        if validate:
            journal.write(validation=validation(run, validate))
    curve(journal.path, out / "curve.png")


def _keep(run: Training, out: Path) -> None:
    run.save(out / "resume.pt")
    save(run.average, out / "weights.safetensors")


def validation(run: Training, folders: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Scores of the averaged weights on the first images of each folder, in percent."""
    reader = Reader(copy.deepcopy(run.average), device=run.device)
    results = [evaluate(reader, folder, limit=run.recipe.validate_images) for folder in folders]
    return {r.name: {"folded": r.folded, "ci": r.ci, "exact": r.exact, "cer": r.cer} for r in results}


def curve(log: Path, picture: Path) -> None:
    """Draws loss and validation accuracy over samples used, from the JSONL log, into a PNG."""
    from matplotlib.figure import Figure

    entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    losses = [(e["used"], e["loss"]) for e in entries if "loss" in e]
    scores: dict[str, list[tuple[int, float]]] = {}
    for entry in entries:
        for name, score in entry.get("validation", {}).items():
            kind = dataset_metric(name)
            scores.setdefault(f"{name} ({kind})", []).append((entry["used"], score[kind]))
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy([u / 1000 for u, _ in losses], [max(v, 1e-3) for _, v in losses])
    left.set(xlabel="thousand samples used", ylabel="CTC loss per character")
    for name, points in scores.items():
        right.plot([u / 1000 for u, _ in points], [v for _, v in points], marker=".", label=name)
    right.set(xlabel="thousand samples used", ylabel="correct, %", ylim=(0, 100))
    if scores:
        right.legend(fontsize=7)
    figure.savefig(picture, dpi=110)

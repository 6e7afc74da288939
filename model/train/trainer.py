"""The training run, read from top to bottom: draw, step, average, log, validate, save, resume."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from linewise.model.evaluation.recognition import evaluate
from linewise.model.network.charset import Charset
from linewise.model.network.checkpoint import load_model, replace_durably, save
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.recognition.cascade import SHARED_FIELDS
from linewise.model.recognition.preprocess import to_tensor
from linewise.model.recognition.reader import Reader
from linewise.model.synth.sources.fonts import find_faces
from linewise.model.train.averaging import update_ema
from linewise.model.train.ctc_loss import CtcLoss
from linewise.model.train.data.augment import augment
from linewise.model.train.data.sample_loader import SampleLoader, ShardSource, open_source
from linewise.model.train.data.samples import TrainingSample
from linewise.model.train.data.shards import SampleHook, ShardFolder
from linewise.model.train.distillation.soft_targets import Teacher, soft_target_loss
from linewise.model.train.environment import interruptible, mixed_precision
from linewise.model.train.recipe import Recipe
from linewise.model.train.run_log import Position, RunLog, plot_curve

SAVE_PERIOD_S = 120.0  # a cut run loses no more than this
LOG_PERIOD_S = 10.0
CTC_SHARE = 0.3  # weight of the CTC loss beside a teacher's posteriors


class Trainer:
    """Model, optimiser, averaged weights and position of a run, saved and restored as one."""

    def __init__(self, recipe: Recipe, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        self.recipe, self.device, self.seed = recipe, device, seed
        self.model = CRNN(recipe.model).to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval()
        self.position = Position()
        self.shard_reads: dict[int, int] = {}
        self.loss = CtcLoss(Charset(recipe.model.alphabet))
        self.generator = torch.Generator(device).manual_seed(seed)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=recipe.rate, betas=(0.9, 0.98),
        )  # fmt: skip

    def start_from(self, weights: Path) -> None:
        """Take the tensors of a checkpoint of the same shape; the optimiser starts anew.

        Raises:
            ValueError: the checkpoint's network has another shape or alphabet than the recipe's.
        """
        other, _ = load_model(weights, self.device)
        if other.config.alphabet != self.recipe.model.alphabet:  # a class would stand for another character
            raise ValueError(f"{weights} holds a network of another alphabet, or order of it, than {self.recipe.name}")
        if (other.config.channels, other.config.hidden) != (self.recipe.model.channels, self.recipe.model.hidden):
            raise ValueError(f"{weights} holds a network of another shape than the recipe {self.recipe.name}")
        self.model.load_state_dict(other.state_dict())
        self.average.load_state_dict(other.state_dict())

    def losses(self, samples: Sequence[TrainingSample]) -> tuple[torch.Tensor, torch.Tensor]:
        """CTC loss of each sample's whole text and loss to minimise, in nats, float32 `(B,)` each.

        They differ where a sample has a teacher's posteriors.
        """
        images = augment(to_tensor([sample.image for sample in samples], self.device), self.generator)
        images = images.contiguous(memory_format=torch.channels_last)
        with mixed_precision(self.device):
            logits = self.model(images)
        ctc = self.loss(logits, [sample.text for sample in samples], [sample.ignore_case for sample in samples])
        targets = [sample.targets for sample in samples]
        if not any(targets):
            return ctc, ctc
        share = torch.tensor([CTC_SHARE if target else 1.0 for target in targets], device=self.device)
        return ctc, share * ctc + soft_target_loss(logits, targets)

    def step(self, samples: Sequence[TrainingSample], rate: float) -> float:
        """One step of the optimiser on the mean loss per character, which is returned.

        Each sample's own loss is noted in the sample.
        """
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        ctc, losses = self.losses(samples)
        for sample, value in zip(samples, ctc.tolist(), strict=True):
            sample.loss = value
        lengths = torch.tensor([max(1, len(sample.text)) for sample in samples], device=self.device)
        loss = (losses / lengths).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimiser.step()
        self.position.step += 1
        self.position.used += len(samples)
        # A short memory at first, else the average would long hold the random start.
        decay = min(self.recipe.ema, (1 + self.position.step) / (10 + self.position.step))
        update_ema(self.average, self.model, decay)
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write everything that resuming needs, atomically and to the disk.

        Raises:
            OSError: the file cannot be written.
        """
        state = {
            "model": self.model.state_dict(), "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(), "at": asdict(self.position), "seed": self.seed,
            "config": self.recipe.model.to_json(), "recipe": self.recipe.name, "shard_reads": self.shard_reads,
            "generator": self.generator.get_state(), "random": torch.get_rng_state(),
        }  # fmt: skip
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(state, file)
        replace_durably(part, path)

    def restore(self, path: Path) -> None:
        """Go on where `save` left off.

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
        self.position = Position(**state["at"])
        self.seed = state["seed"]
        self.shard_reads = state.get("shard_reads", {})
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["random"].cpu())


def rate_at(recipe: Recipe, step: int, fraction: float) -> float:
    """Learning rate: linear warm-up by steps, then level, then a linear fall over the last share of the time.

    The warm-up, stable, decay schedule of MiniCPM (Hu et al., 2024). A run can be cut and resumed at any point
    of the level part.
    """
    warm = min(1.0, (step + 1) / recipe.warmup)
    left = (1 - fraction) / recipe.decay if recipe.decay else 1.0
    return recipe.rate * warm * max(0.01, min(1.0, left))


@dataclass(frozen=True)
class RunOptions:
    """What differs from run to run of one recipe.

    The run lasts `minutes`, or `steps` where given. `resume` goes on with a cut run, `start` begins a new one from
    a checkpoint's tensors. `shards` is a folder of drawn samples; without it they are drawn beside training.
    `rate` replaces the recipe's. `validate` names labelled folders. `teacher` is a checkpoint whose posteriors are
    learnt beside the texts; it needs `shards`.
    """

    minutes: float
    resume: Path | None = None
    start: Path | None = None
    shards: Path | None = None
    validate: tuple[Path, ...] = ()
    rate: float | None = None
    seed: int = 0
    steps: int | None = None
    device: str | None = None
    teacher: Path | None = None


def train(recipe: Recipe, out: Path, options: RunOptions, console: Console | None = None) -> Trainer:
    """Train and leave weights, resume file, log and curve in `out`.

    A SIGINT or SIGTERM ends the run after the step in progress, with everything saved.

    Raises:
        ValueError: `resume` or `start` does not fit the recipe.
        RuntimeError: no usable font is installed, a renderer died, or there are no shards.
    """
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    out.mkdir(parents=True, exist_ok=True)
    recipe = replace(recipe, rate=options.rate) if options.rate else recipe
    trainer = Trainer(recipe, device, options.seed)
    if options.resume:
        trainer.restore(options.resume)
    elif options.start:
        trainer.start_from(options.start)
    loader = _open_loader(trainer, options)
    try:
        with interruptible() as interrupted:
            _run(trainer, loader, out, options, interrupted, console or Console())
    finally:
        loader.close()
    return trainer


def _open_loader(trainer: Trainer, options: RunOptions) -> SampleLoader:
    recipe, drawn = trainer.recipe, trainer.position.drawn
    if options.teacher is not None and options.shards is None:
        raise ValueError("a teacher needs shards, beside which its posteriors are kept")
    if options.shards is not None:
        on_read = _soft_targets(options.teacher, recipe.model) if options.teacher else None
        folder = ShardFolder(options.shards, trainer.seed + drawn, trainer.shard_reads, on_read)
        trainer.shard_reads = folder.reads
        return SampleLoader(ShardSource(folder, drawn), seed=trainer.seed, replay=recipe.replay, pool=recipe.pool)
    faces = [face for face in find_faces() if not face.held_out]
    source = open_source(
        faces, recipe.model, seed=trainer.seed, drawn=drawn, easy_until=recipe.easy_until, workers=recipe.workers
    )
    return SampleLoader(source, seed=trainer.seed, replay=recipe.replay, pool=recipe.pool)


def _soft_targets(weights: Path, student: ModelConfig) -> SampleHook:
    """A hook that attaches a teacher's posteriors to the samples of each shard.

    Raises:
        ValueError: teacher and student do not share alphabet and frames.
    """
    teacher = Teacher(weights)
    if any(getattr(teacher.config, name) != getattr(student, name) for name in SHARED_FIELDS):
        raise ValueError(f"{weights} has another alphabet or other frames than the recipe: it cannot be its teacher")
    return lambda samples, path: teacher.attach(samples, path.with_suffix(".targets.npz"))


def _run(
    trainer: Trainer, loader: SampleLoader, out: Path, options: RunOptions, cut: Callable[[], bool], console: Console
) -> None:
    recipe, total = trainer.recipe, options.minutes * 60
    begun, base, first = time.monotonic(), trainer.position.seconds, trainer.position.step
    saved = validated = begun
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        log = RunLog(trainer.position, out, progress, total)
        while not cut():
            elapsed = time.monotonic() - begun
            fraction = elapsed / total if options.steps is None else (trainer.position.step - first) / options.steps
            if fraction >= 1:
                break
            rate = rate_at(recipe, trainer.position.step, fraction)
            batch = loader.batch(recipe.batch_pixels, recipe.largest_batch)
            loss = trainer.step(batch, rate)
            loader.give_back(batch)
            if not math.isfinite(loss):
                raise RuntimeError(
                    f"the loss became {loss} at step {trainer.position.step}: resume from the last save at a lower rate"
                )
            trainer.position.drawn, trainer.position.seconds = loader.drawn, base + time.monotonic() - begun
            log.step(loss, rate, elapsed, every=0 if options.steps else LOG_PERIOD_S)
            if time.monotonic() - saved > SAVE_PERIOD_S:
                _save(trainer, out)
                saved = time.monotonic()
            if options.validate and time.monotonic() - validated > recipe.validate_every:
                log.write(validation=validation(trainer, options.validate))
                plot_curve(log.path, out / "curve.png")
                validated = time.monotonic()
        _save(trainer, out)
        if options.validate:
            log.write(validation=validation(trainer, options.validate))
    plot_curve(log.path, out / "curve.png")


def _save(trainer: Trainer, out: Path) -> None:
    trainer.save(out / "resume.pt")
    save(trainer.average, out / "weights.safetensors")


def validation(trainer: Trainer, folders: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Scores of the averaged weights on the first images of each folder, in percent."""
    reader = Reader(copy.deepcopy(trainer.average), device=trainer.device)
    results = [evaluate(reader, folder, limit=trainer.recipe.validate_images) for folder in folders]
    return {r.name: {"folded": r.folded, "ci": r.ci, "exact": r.exact, "cer": r.cer} for r in results}

"""The log of a run: JSON lines, progress on the console, and the learning curve."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from linewise.model.evaluation.datasets import dataset_metric


@dataclass
class Position:
    """Progress of a run; part of the resume file."""

    step: int = 0
    used: int = 0
    drawn: int = 0
    seconds: float = 0.0


class RunLog:
    """Appends one JSON object a line to `log.jsonl` and shows a line of progress on the console."""

    def __init__(self, position: Position, folder: Path, progress: Progress, seconds: float) -> None:
        self.position = position
        self.path = folder / "log.jsonl"
        self.progress = progress
        self.task = progress.add_task("training", total=seconds)
        self._since, self._used, self._cpu = time.monotonic(), position.used, time.thread_time()
        self._loss = math.nan
        self._end_torn_line()

    def _end_torn_line(self) -> None:
        """End a line that a cut run left half written, so that the next one stands by itself."""
        if self.path.is_file() and (content := self.path.read_bytes()) and not content.endswith(b"\n"):
            with self.path.open("ab") as log:
                log.write(b"\n")

    def write(self, **entry: object) -> None:
        """Append `entry` with the run's position."""
        at = self.position
        position = {"step": at.step, "used": at.used, "drawn": at.drawn, "seconds": round(at.seconds, 1)}
        with self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps({**position, **entry}) + "\n")

    def step(self, loss: float, rate: float, elapsed: float, every: float) -> None:
        """Note a step; write the smoothed loss and the speed once in `every` seconds."""
        self._loss = loss if math.isnan(self._loss) else self._loss + 0.02 * (loss - self._loss)
        passed = time.monotonic() - self._since
        if passed < every:
            return
        speed = (self.position.used - self._used) / max(passed, 1e-9)
        busy = (time.thread_time() - self._cpu) / max(passed, 1e-9)
        self.write(loss=round(self._loss, 4), rate=rate, samples_per_s=round(speed, 1), cpu_share=round(busy, 2))
        described = f"step {self.position.step}  loss {self._loss:.3f}  {speed:.0f} samples/s"
        self.progress.update(self.task, completed=elapsed, description=described)
        self._since, self._used, self._cpu = time.monotonic(), self.position.used, time.thread_time()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a log; lines that a cut run tore are left out."""
    entries = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def plot_curve(log: Path, picture: Path) -> None:
    """Draw loss and validation accuracy over samples used, from the JSONL log, into a PNG."""
    from matplotlib.figure import Figure

    entries = read_log(log)
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

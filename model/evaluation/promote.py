"""Promotion of a checkpoint: it replaces another one only if its mean score is higher."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linewise.model.evaluation.datasets import dataset_metric
from linewise.model.evaluation.metrics import Metric
from linewise.model.evaluation.recognition import DatasetResult
from linewise.model.network.checkpoint import load_weights
from linewise.model.recognition.reader import Reader, load


@dataclass(frozen=True)
class Comparison:
    """Scores of a dataset with the old and the new checkpoint, from 0 to 100."""

    name: str
    old: float
    new: float


def load_both(old: Path, new: Path, device: str | None = None) -> tuple[Reader, Reader]:
    """Load readers with the old and the new checkpoint, in the precision in which the old one runs.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        ValueError: the new one has no activation ranges for 8-bit integers, and the old one has.
    """
    old_reader = load(old, device)
    new_weights, revision = load_weights(new)
    if old_reader.config.ranges and not new_weights.config.ranges:
        raise ValueError(
            f"{new} has no activation ranges for 8-bit integers, but {old} has: add them with linewise calibrate"
        )
    return old_reader, Reader(new_weights, revision, old_reader.device, old_reader.precision, old_reader.language)


def score(result: DatasetResult) -> float:
    """Score of a dataset from 0 to 100: its own metric, for EXACT averaged with the character accuracy.

    Whole lines are right so rarely that their share alone shows little of a network's progress.
    """
    match dataset_metric(result.name):
        case Metric.EXACT:
            return (result.exact + max(0.0, 100 - result.cer)) / 2
        case Metric.FOLDED:
            return result.folded
        case Metric.CASE_INSENSITIVE:
            return result.ci


def compare(old: Sequence[DatasetResult], new: Sequence[DatasetResult]) -> list[Comparison]:
    """Pair the scores of the same datasets.

    Raises:
        ValueError: not the same datasets in the same order.
    """
    if [result.name for result in old] != [result.name for result in new]:
        raise ValueError("old and new weights were measured on different sets")
    return [Comparison(before.name, score(before), score(after)) for before, after in zip(old, new, strict=True)]


def is_better(comparisons: Sequence[Comparison]) -> bool:
    """Whether the sum of the scores rises; each dataset has the same weight."""
    return sum(comparison.new - comparison.old for comparison in comparisons) > 0


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Comparisons as a Markdown table, with their mean in the last row."""
    rows = [*comparisons, _mean(comparisons)] if comparisons else []
    lines = ["| set | old | new | difference |", "|---|---:|---:|---:|"]
    return "\n".join([*lines, *(f"| {r.name} | {r.old:.2f} | {r.new:.2f} | {r.new - r.old:+.2f} |" for r in rows)])


def replace_checkpoint(shipped: Path, new: Path) -> None:
    """Replace the file `shipped` by a copy of `new`, atomically."""
    part = shipped.with_suffix(".part")
    shutil.copyfile(new, part)
    os.replace(part, shipped)


def _mean(comparisons: Sequence[Comparison]) -> Comparison:
    count = len(comparisons)
    return Comparison("mean", sum(c.old for c in comparisons) / count, sum(c.new for c in comparisons) / count)

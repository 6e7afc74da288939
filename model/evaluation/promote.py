"""Whether new weights may take the place of the shipped ones: only if they are better, set by set weighed."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linewise.model.evaluation.recognition import SetResult, own_metric


@dataclass(frozen=True)
class Comparison:
    """A set's score under the old weights and under the new ones, from 0 to 100."""

    name: str
    old: float
    new: float


def score(result: SetResult) -> float:
    """One number for a set, from 0 to 100: its own metric; of lines, the mean of that and of the right characters.

    Whole lines are right so seldom that their share alone would not see a network learn.
    """
    if own_metric(result.name) == "exact":
        return (result.exact + max(0.0, 100 - result.cer)) / 2
    return result.folded if own_metric(result.name) == "folded" else result.ci


def compare(old: Sequence[SetResult], new: Sequence[SetResult]) -> list[Comparison]:
    """The scores of the same sets side by side.

    Raises:
        ValueError: not the same sets in the same order.
    """
    if [result.name for result in old] != [result.name for result in new]:
        raise ValueError("old and new weights were measured on different sets")
    return [Comparison(before.name, score(before), score(after)) for before, after in zip(old, new, strict=True)]


def is_better(comparisons: Sequence[Comparison]) -> bool:
    """Whether the scores rise in sum, each set counting the same."""
    return sum(one.new - one.old for one in comparisons) > 0


def table(comparisons: Sequence[Comparison]) -> str:
    """The comparison as a Markdown table with the mean of all sets in its last row."""
    rows = [*comparisons, _mean(comparisons)] if comparisons else []
    lines = ["| set | old | new | difference |", "|---|---:|---:|---:|"]
    return "\n".join([*lines, *(f"| {r.name} | {r.old:.2f} | {r.new:.2f} | {r.new - r.old:+.2f} |" for r in rows)])


def replace(shipped: Path, new: Path) -> None:
    """Puts the file `new` in the place of `shipped`, in one step."""
    part = shipped.with_suffix(".part")
    shutil.copyfile(new, part)
    os.replace(part, shipped)


def _mean(comparisons: Sequence[Comparison]) -> Comparison:
    count = len(comparisons)
    return Comparison("mean", sum(c.old for c in comparisons) / count, sum(c.new for c in comparisons) / count)

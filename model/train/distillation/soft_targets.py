"""Soft targets: a teacher's posteriors for training samples, kept in files beside their shards."""

import itertools
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from linewise.model.decoding import ctc
from linewise.model.network.charset import Charset
from linewise.model.network.checkpoint import load_weights
from linewise.model.recognition.preprocess import normalise
from linewise.model.runtime.device import choose_device
from linewise.model.runtime.model_runner import recogniser_runner
from linewise.model.train.data.samples import SoftTargets, TrainingSample

CLASSES_PER_FRAME = 6
BATCH_PIXELS = 4096  # total width of the pictures that the teacher reads at once


class Teacher:
    """A trained network whose posteriors a smaller network learns."""

    def __init__(self, weights: Path) -> None:
        """Load the teacher.

        Raises:
            CheckpointError: the weights are missing, damaged or do not fit.
        """
        network, self.revision = load_weights(weights)
        self.config = network.config
        self._charset = Charset(network.config.alphabet)
        self._runner = recogniser_runner(network, choose_device("cpu"), "float32")

    def attach(self, samples: Sequence[TrainingSample], path: Path) -> None:
        """Set the targets of a shard's samples, from the file `path` if this teacher wrote it.

        Samples that the teacher reads wrongly get none.

        Raises:
            OSError: the file cannot be written.
        """
        targets = _read(path, self.revision, samples)
        if targets is None:
            targets = self._compute(samples)
            _write(path, self.revision, targets)
        for sample, target in zip(samples, targets, strict=True):
            greedy = self._charset.decode([k for k, _ in itertools.groupby(target.classes[:, 0].tolist()) if k])
            sample.targets = target if _equal(greedy, sample) else None

    def _compute(self, samples: Sequence[TrainingSample]) -> list[SoftTargets]:
        targets: dict[int, SoftTargets] = {}
        order = sorted(range(len(samples)), key=lambda i: samples[i].image.shape[1])
        for width, group in itertools.groupby(order, key=lambda i: samples[i].image.shape[1]):
            indexes = list(group)
            size = max(1, BATCH_PIXELS // width)
            for batch in (indexes[first : first + size] for first in range(0, len(indexes), size)):
                (logits,) = self._runner.logits([normalise([samples[i].image for i in batch])])
                probabilities = np.exp(ctc.log_posteriors(logits, 1.0))
                classes = np.argsort(-probabilities, axis=-1)[..., :CLASSES_PER_FRAME]
                best = np.take_along_axis(probabilities, classes, axis=-1)
                for row, index in enumerate(batch):
                    targets[index] = SoftTargets(classes[row].astype(np.uint16), best[row].astype(np.float16))
        return [targets[i] for i in range(len(samples))]


def _equal(text: str, sample: TrainingSample) -> bool:
    if sample.ignore_case:
        return text.strip().lower() == sample.text.lower()
    return text.strip() == sample.text


def _read(path: Path, revision: str, samples: Sequence[TrainingSample]) -> list[SoftTargets] | None:
    """The targets of `path`, or None where another teacher wrote them or the file is no such file."""
    try:
        with np.load(path) as file:
            if str(file["revision"]) != revision or int(file["frames"].shape[0]) != len(samples):
                return None
            ends = np.cumsum(file["frames"])[:-1]
            classes, probabilities = np.split(file["classes"], ends), np.split(file["probabilities"], ends)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError):
        return None
    return [SoftTargets(c, p) for c, p in zip(classes, probabilities, strict=True)]


def _write(path: Path, revision: str, targets: Sequence[SoftTargets]) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            revision=np.array(revision),
            frames=np.array([len(target.classes) for target in targets]),
            classes=np.concatenate([target.classes for target in targets]),
            probabilities=np.concatenate([target.probabilities for target in targets]),
        )
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def soft_target_loss(logits: torch.Tensor, targets: Sequence[SoftTargets | None]) -> torch.Tensor:
    """Cross-entropy of logits `(B, T, C)` against each sample's targets, summed over frames, float32 `(B,)`.

    It is 0 for samples without targets.
    """
    losses = logits.new_zeros(len(targets), dtype=torch.float32)
    rows = [i for i, target in enumerate(targets) if target is not None]
    if not rows:
        return losses
    classes = np.stack([target.classes for target in targets if target is not None]).astype(np.int64)
    probabilities = np.stack([target.probabilities for target in targets if target is not None]).astype(np.float32)
    log_probs = logits[rows].float().log_softmax(-1)
    known = log_probs.gather(-1, torch.from_numpy(classes).to(logits.device))
    weights = _normalised(probabilities)
    return losses.index_put(
        (torch.tensor(rows, device=logits.device),), -(torch.from_numpy(weights).to(logits.device) * known).sum((1, 2))
    )


def _normalised(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(probabilities / probabilities.sum(-1, keepdims=True), np.float32)

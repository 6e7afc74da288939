"""Stages of a cascade around the base network: a fast network before it, rescoring after it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from linewise.model.decoding import ctc
from linewise.model.decoding.beam_search import Candidate
from linewise.model.decoding.hypotheses import Hypotheses, decode
from linewise.model.decoding.language_model import LanguageModel
from linewise.model.decoding.rescoring import rescore
from linewise.model.network.charset import Charset
from linewise.model.network.checkpoint import CheckpointError, NetworkWeights, load_weights
from linewise.model.network.config import ModelConfig
from linewise.model.recognition import passes
from linewise.model.recognition.augmented_views import augmented_views
from linewise.model.recognition.preprocess import Image
from linewise.model.runtime.device import choose_device
from linewise.model.runtime.model_runner import recogniser_runner

Array = NDArray[np.float32]
LogitsFunction = Callable[[Sequence[Image]], Iterator[tuple[list[int], Array]]]

# Fields that two networks of a cascade share: the input and the classes and frames of the output.
SHARED_FIELDS = ("alphabet", "height", "widths", "input_channels", "stretch")


class FastStage:
    """A small network, in float32 on the CPU, that answers where it is sure."""

    def __init__(self, weights: NetworkWeights[ModelConfig], base: ModelConfig, limits: passes.PassLimits) -> None:
        """Take the place before a network of configuration `base`.

        Raises:
            ValueError: the networks have other alphabets or frames.
        """
        self.config = weights.config
        different = [name for name in SHARED_FIELDS if getattr(self.config, name) != getattr(base, name)]
        if different:
            raise ValueError(f"the fast network differs from the base network in {', '.join(different)}")
        self._charset = Charset(self.config.alphabet)
        self._runner = recogniser_runner(weights, choose_device("cpu"), "float32")
        self._limits = limits

    def read(self, images: Sequence[Image]) -> list[Hypotheses | None]:
        """Greedy hypotheses of each image, None where the confidence is below that of the configuration.

        Raises:
            ValueError: as `preprocess.check_image`.
        """
        results: list[Hypotheses | None] = [None] * len(images)
        for indexes, logits in passes.compute_logits(self._runner.logits, self.config, images, self._limits):
            decoded = decode(logits, self.config.temperature, self._charset, [None] * len(indexes))
            for index, hypotheses in zip(indexes, decoded, strict=True):
                if hypotheses.best.confidence >= self.config.accept_confidence:
                    results[index] = hypotheses
        return results


def load_fast(base: str | os.PathLike[str], revision: str) -> tuple[NetworkWeights[ModelConfig] | None, str]:
    """Load the fast network of a base network of that revision: `NAME-fast.safetensors` beside `NAME.safetensors`.

    Returns None and the base network's revision where there is none, else a revision of both.

    Raises:
        CheckpointError: the file is damaged or belongs to other weights.
    """
    path = Path(base)
    fast_path = path.with_name(f"{path.stem}-fast{path.suffix}")
    if not fast_path.exists():
        return None, revision
    weights, fast_revision = load_weights(fast_path)
    if weights.config.base_revision != revision:
        raise CheckpointError(
            f"{fast_path} belongs to other weights than {path}: calibrate it with these, or remove it"
        )
    return weights, "sha256:" + hashlib.sha256(f"{revision} {fast_revision}".encode()).hexdigest()


@dataclass(frozen=True)
class View:
    """One view of an image with its log posteriors `(T, C)`.

    `decoded` is the result of decoding the view by itself, where that has been done.
    """

    name: str
    image: Image
    log_probs: Array
    decoded: ctc.Decoded | None = None


@dataclass(frozen=True)
class Rescored:
    """Rescored hypotheses of an image, aligned to the view that supports them most: its image and name."""

    hypotheses: Hypotheses
    image: Image
    view: str


@dataclass(frozen=True)
class Rescorer:
    """Rescores hypotheses of low confidence, with augmented views of words and a language model.

    `compute_logits` yields indexes of some images and their logits `(B, T, C)`, until all are done; `temperature`
    divides them before the softmax.
    """

    charset: Charset
    temperature: float
    language: LanguageModel | None
    compute_logits: LogitsFunction

    def rescore(self, doubtful: Sequence[tuple[Image, Hypotheses]]) -> list[Rescored | None]:
        """Rescore images with their hypotheses; None where there is neither another view nor a language model."""
        return [
            self._rescore_views(views, hypotheses.others) if len(views) > 1 or self.language is not None else None
            for views, (_, hypotheses) in zip(self._augment(doubtful), doubtful, strict=True)
        ]

    def _augment(self, doubtful: Sequence[tuple[Image, Hypotheses]]) -> list[list[View]]:
        """Views of each image: the image itself, then its augmented views."""
        results: list[list[View]] = []
        augmented: list[tuple[int, str, Image]] = []
        for index, (image, hypotheses) in enumerate(doubtful):
            assert hypotheses.log_probs is not None
            results.append([View("", image, hypotheses.log_probs, hypotheses.best)])
            augmented += [(index, name, view) for name, view in augmented_views(image)]
        log_probs_by_number: dict[int, Array] = {}
        for numbers, logits in self.compute_logits([image for _, _, image in augmented]):
            log_probs_by_number.update(zip(numbers, ctc.log_posteriors(logits, self.temperature), strict=True))
        for number, (index, name, image) in enumerate(augmented):
            results[index].append(View(name, image, log_probs_by_number[number]))
        return results

    def _rescore_views(self, views: Sequence[View], further: Sequence[Candidate]) -> Rescored:
        """The most probable text over all views.

        `further` candidates are alternatives only.
        """
        best, *others = rescore(
            [view.log_probs for view in views], self.charset, self.language, [candidate.ids for candidate in further]
        )
        view = views[best.view]
        if view.decoded is not None and view.decoded.ids == best.ids:
            decoded = replace(view.decoded, confidence=best.confidence)
        else:
            decoded = ctc.Decoded(best.ids, *ctc.align(view.log_probs, best.ids), best.confidence)
        candidates = tuple(Candidate(other.ids, other.confidence) for other in others)
        return Rescored(Hypotheses(decoded, candidates), view.image, view.name)

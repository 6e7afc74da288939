"""Text recognition: images of single lines in, text with confidences out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from linewise.model.decoding import ctc
from linewise.model.decoding.hypotheses import Hypotheses, decode
from linewise.model.decoding.language_model import LanguageModel
from linewise.model.decoding.language_model import load as load_language
from linewise.model.decoding.likelihood import text_probabilities
from linewise.model.decoding.options import Decoding, build_decoding
from linewise.model.network.charset import Charset
from linewise.model.network.checkpoint import DEFAULT_PATH, NetworkWeights, load_weights
from linewise.model.network.config import ModelConfig
from linewise.model.recognition import passes
from linewise.model.recognition.cascade import FastStage, Rescorer, load_fast
from linewise.model.recognition.placement import FramePlacement, fit_to_ink
from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.results import Reading, Stage, TextFormat, build_reading, rescale_spans
from linewise.model.recognition.rotation import has_rotation_evidence, most_confident, rotated, rotations
from linewise.model.runtime.device import choose_device, require_torch
from linewise.model.runtime.model_runner import recogniser_runner
from linewise.model.runtime.process import ProcessBound

if TYPE_CHECKING:  # reading in float32 on a CPU needs no torch
    import torch

    from linewise.model.network.crnn import CRNN

Array = NDArray[np.float32]


@dataclass(frozen=True)
class _FirstPass:
    """Reading of one rotation of an image before rescoring."""

    image: Image
    hypotheses: Hypotheses
    reading: Reading


class Reader(ProcessBound):
    """Reads images of single lines of text.

    On a CPU, several threads may read at once, on an accelerator one at a time. Each process loads its own reader:
    a reader cannot be pickled, copied, or used after a fork. `model_id` names the model, `revision` identifies
    the weights of its network.
    """

    model_id = "linewise"

    def __init__(
        self,
        model: NetworkWeights[ModelConfig] | CRNN,
        revision: str = "unsaved",
        device: torch.device | str = "cpu",
        precision: str = "float32",
        language: LanguageModel | None = None,
        fast: NetworkWeights[ModelConfig] | None = None,
    ) -> None:
        """Take over `model`: a network of torch may be modified, its normalisations folded into its convolutions.

        `device` is the name of a device of torch. `precision` is one of `model.runtime.precision.PRECISIONS`. `int8`
        computes the convolutions in 8-bit integers and the other layers in bfloat16 where the processor supports it.
        `auto` is the first of int8, bfloat16 and float32 that processor and weights support. Low-confidence readings
        are rescored with `language`. Where the network runs in float32 on a CPU, a network `fast` reads before it,
        and `model` reads only what that one is not sure of.

        Raises:
            ValueError: an unknown precision, one that the processor or the weights do not support, or a fast network
                with another alphabet or other frames.
        """
        super().__init__()
        self.config: ModelConfig = model.config
        self.revision = revision
        self.language = language
        self.device = choose_device(device)
        self._charset = Charset(model.config.alphabet)
        self._model = model
        self._runner = recogniser_runner(model, self.device, precision)
        self.precision = self._runner.precision
        self._limits = passes.runner_limits(self.device.type, self.precision)
        takes_part = fast is not None and self.device.type == "cpu" and self.precision == "float32"
        self._fast = FastStage(fast, self.config, self._limits) if fast is not None and takes_part else None

    def read(
        self,
        images: Sequence[Image],
        decodings: Sequence[Decoding | None] | None = None,
        *,
        typographic_quotes: bool = False,
    ) -> list[Reading]:
        """Read each image, in order; a result does not depend on the other images.

        `images` are uint8 `(H, W)` grey or `(H, W, 3)` RGB arrays of any size. An image much taller
        than wide is also read rotated to either side, and the most confident reading is kept. Low-confidence
        readings are rescored, those of words with augmented views as well. `decodings`, one for each image, come from
        `decoding`; None is greedy decoding. Typographic quotes become straight ones unless `typographic_quotes` is
        set; outer spaces are dropped.

        Raises:
            ValueError: an array of another type or shape, an empty one, or another number of decodings than images.
        """
        options = [None] * len(images) if decodings is None else list(decodings)
        if len(options) != len(images):
            raise ValueError(f"{len(options)} decodings for {len(images)} images")
        text_format = TextFormat(self._charset, typographic_quotes)
        sure = self._read_fast(images, options, text_format)
        rest = [index for index in range(len(images)) if index not in sure]
        others = self._read_base([images[index] for index in rest], [options[index] for index in rest], text_format)
        readings = dict(zip(rest, others, strict=True)) | sure
        return [
            replace(reading, characters=fit_to_ink(reading.characters, rotated(image, reading.turn)))
            for image, reading in ((image, readings[index]) for index, image in enumerate(images))
        ]

    def decoding(
        self,
        alternatives: int = 0,
        charset: str | None = None,
        charset_exclude: str = "",
        lexicon: Iterable[str] | None = None,
    ) -> Decoding | None:
        """Decoding options of one image for `read`; None if all of them are the defaults.

        `charset` holds the only characters that may be read, `charset_exclude` characters that may not; the
        space is a character like any other. With a `lexicon`, the text is one of its entries, or
        several with spaces between. Confidences stay those of the unconstrained network.

        Raises:
            ValueError: fewer than 0 alternatives, a character that the model cannot write, or constraints that
                exclude every character.
        """
        return build_decoding(self._charset, alternatives, charset, charset_exclude, lexicon)

    def logit_arrays(self, images: Sequence[Image]) -> list[Array]:
        """Output of the network before decoding: float32 `(T, C)` for each image, class 0 the blank.

        Raises:
            ValueError: as `read`.
        """
        results: dict[int, Array] = {}
        for indexes, logits in self._logits(images):
            results.update(zip(indexes, logits, strict=True))
        return [results[index] for index in range(len(images))]

    def logits(self, images: Sequence[Image]) -> list[torch.Tensor]:
        """Output of the network as tensors of torch: see `logit_arrays`.

        Raises:
            ValueError: as `read`, or torch is not installed.
        """
        require_torch("Reader.logits")
        import torch

        return [torch.from_numpy(logits) for logits in self.logit_arrays(images)]

    def probabilities(self, images: Sequence[Image], texts: Sequence[str], *, ignore_case: bool = False) -> list[float]:
        """Probability, in [0, 1], that each image holds its text, for verifying known texts.

        Straight and typographic quotes count as equal, as in `read`, and with `ignore_case` so do small
        and capital letters. A text with a character that the model cannot write has probability 0. An image much
        taller than wide counts in the rotation that supports its text most; a text of one character, only upright.

        Raises:
            ValueError: as `read`, or another number of texts than images.
        """
        if len(texts) != len(images):
            raise ValueError(f"{len(texts)} texts for {len(images)} images")
        views = [
            (index, rotated(image, turn))
            for index, image in enumerate(images)
            for turn in _rotations(image)
            if not turn or has_rotation_evidence(texts[index])
        ]
        view_probabilities = text_probabilities(
            self.logit_arrays([view for _, view in views]),
            [texts[index] for index, _ in views],
            self.config.temperature,
            self._charset,
            ignore_case=ignore_case,
        )
        results = [0.0] * len(images)
        for (index, _), probability in zip(views, view_probabilities, strict=True):
            results[index] = max(results[index], probability)
        return results

    def posteriors(self, image: Image) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Calibrated posteriors of one image with the positions of their frames, for explanations.

        Returns posteriors `(T, C)` in [0, 1], class 0 the blank, and the `T + 1` edges of
        their frames in pixels along the width of the image.

        Raises:
            ValueError: as `read`.
        """
        (logits,) = self.logit_arrays([image])
        posteriors = np.exp(ctc.log_posteriors(logits, self.config.temperature))
        placement = FramePlacement(self.config, *image.shape[:2])
        return posteriors, np.array([placement.left_edge(frame) for frame in range(len(posteriors) + 1)])

    @property
    def network(self) -> CRNN:
        """The network of torch, its normalisations folded away.

        Raises:
            ValueError: torch is not installed.
        """
        require_torch("Reader.network")
        from linewise.model.runtime.torch_runner import folded_network

        return folded_network(self._model)

    def width_bucket(self, height: int, width: int) -> int:
        """Width in pixels, at the model's height, that dominates the cost of an image of this size."""
        return passes.width_bucket(self.config, height, width)

    def warm_up(self) -> None:
        """Run empty images, so that requests do not pay for set-up.

        There is one of every width of the ladder where each shape needs a kernel of its own, else a single one.
        """
        self._check_process()
        for width in self.config.widths if self._limits.powers_of_two else self.config.widths[:1]:
            size = (1, self.config.input_channels, self.config.height, width)
            (logits,) = self._runner.logits([np.zeros(size, np.float32)])
            ctc.greedy(logits)

    def _read_fast(
        self, images: Sequence[Image], options: Sequence[Decoding | None], text_format: TextFormat
    ) -> dict[int, Reading]:
        """Readings of which the fast network is sure, by index, of upright images that are decoded greedily."""
        if self._fast is None:
            return {}
        self._check_process()
        candidates = [i for i, image in enumerate(images) if options[i] is None and len(_rotations(image)) == 1]
        sure = self._fast.read([images[index] for index in candidates])
        return {
            index: replace(self._build_reading(hypotheses, images[index], None, text_format), stage=Stage.FAST)
            for index, hypotheses in zip(candidates, sure, strict=True)
            if hypotheses is not None
        }

    def _read_base(
        self, images: Sequence[Image], options: Sequence[Decoding | None], text_format: TextFormat
    ) -> list[Reading]:
        """Readings by the base network, those of low confidence rescored."""
        rotations_by_image = self._read_rotations(images, options, text_format)
        chosen = [
            candidates[most_confident([candidate.reading for candidate in candidates])]
            for candidates in rotations_by_image
        ]
        readings = self._rescore_doubtful(chosen, options, text_format)
        # Rescoring may leave too little evidence for a rotation.
        upright = [
            index for index, reading in enumerate(readings) if reading.turn and not has_rotation_evidence(reading.text)
        ]
        again = self._rescore_doubtful(
            [rotations_by_image[index][0] for index in upright], [options[index] for index in upright], text_format
        )
        for index, reading in zip(upright, again, strict=True):
            readings[index] = reading
        return readings

    def _read_rotations(
        self, images: Sequence[Image], options: Sequence[Decoding | None], text_format: TextFormat
    ) -> list[list[_FirstPass]]:
        """Readings of all rotations of each image, the upright one first."""
        turns = [(index, turn) for index, image in enumerate(images) for turn in _rotations(image)]
        inputs = [rotated(images[index], turn) for index, turn in turns]
        hypotheses = self._decode(inputs, [options[index] for index, _ in turns])
        results: list[list[_FirstPass]] = [[] for _ in images]
        for (index, turn), image, decoded in zip(turns, inputs, hypotheses, strict=True):
            reading = self._build_reading(decoded, image, options[index], text_format)
            results[index].append(_FirstPass(image, decoded, replace(reading, turn=turn)))
        return results

    def _decode(self, images: Sequence[Image], options: Sequence[Decoding | None]) -> list[Hypotheses]:
        """Hypotheses of each image as it is."""
        results: dict[int, Hypotheses] = {}
        for indexes, logits in self._logits(images):
            decoded = decode(logits, self.config.temperature, self._charset, [options[index] for index in indexes])
            results.update(zip(indexes, decoded, strict=True))
        return [results[index] for index in range(len(images))]

    def _rescore_doubtful(
        self, first_passes: Sequence[_FirstPass], options: Sequence[Decoding | None], text_format: TextFormat
    ) -> list[Reading]:
        """Readings of first passes, those of low confidence rescored."""
        readings = [first_pass.reading for first_pass in first_passes]
        doubtful = [i for i, first_pass in enumerate(first_passes) if first_pass.hypotheses.log_probs is not None]
        inputs = [(first_passes[i].image, first_passes[i].hypotheses) for i in doubtful]
        rescorer = Rescorer(self._charset, self.config.temperature, self.language, self._logits)
        for index, rescored in zip(doubtful, rescorer.rescore(inputs), strict=True):
            if rescored is not None:
                reading = self._build_reading(rescored.hypotheses, rescored.image, options[index], text_format)
                reading = rescale_spans(reading, first_passes[index].image.shape[1] / rescored.image.shape[1])
                readings[index] = replace(reading, look=rescored.view, turn=readings[index].turn, stage=Stage.RESCORED)
        return readings

    def _logits(self, images: Sequence[Image]) -> Iterator[tuple[list[int], Array]]:
        """Indexes of some images and their logits `(B, T, C)`, a bounded batch at a time, until all are done."""
        self._check_process()
        return passes.compute_logits(self._runner.logits, self.config, images, self._limits)

    def _build_reading(
        self, hypotheses: Hypotheses, image: Image, options: Decoding | None, text_format: TextFormat
    ) -> Reading:
        placement = FramePlacement(self.config, *image.shape[:2])
        return build_reading(hypotheses, text_format, placement.left_edge, options.alternatives if options else 0)


def _rotations(image: Image) -> tuple[int, ...]:
    # Preprocessing rejects arrays of other dimensions with a clear error.
    return rotations(*image.shape[:2]) if image.ndim > 1 else (0,)


def load(
    path: str | os.PathLike[str] | None = None, device: torch.device | str | None = None, precision: str = "auto"
) -> Reader:
    """Load a reader with the weights of `path`, by default the shipped ones; in float32 on a CPU without torch.

    `device` is by default the GPU if there is one; `precision` is as for `Reader`.

    Raises:
        CheckpointError: the weights are missing, damaged or do not fit.
        ValueError: an unknown device or precision, or one that the processor, the weights or the installed packages do
            not support.
    """
    path = DEFAULT_PATH if path is None else path
    weights, revision = load_weights(path)
    fast, revision = load_fast(path, revision)
    return Reader(weights, revision, choose_device(device), precision, load_language(), fast)

"""The recogniser as everyone uses it: pictures of lines in, text with confidences out."""

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import convert_conv2d_weight_memory_format

from linewise.model.decoding import beam_search, ctc
from linewise.model.decoding.beam_search import Decoding, Lexicon
from linewise.model.decoding.language_model import LanguageModel
from linewise.model.decoding.language_model import load as load_language
from linewise.model.decoding.rescoring import rescore
from linewise.model.network.charset import BLANK, STRAIGHT, Charset
from linewise.model.network.checkpoint import DEFAULT_PATH, load_model
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import COLUMN, CRNN
from linewise.model.recognition import preprocess
from linewise.model.recognition.augmented_views import RESCORE_THRESHOLD, augmented_views, spread
from linewise.model.recognition.preprocess import Image, turned
from linewise.model.recognition.results import Alternative, Character, Reading
from linewise.model.runtime import fused
from linewise.model.runtime.fused import Fused, Plain, fold_normalisation, multiplies_bfloat16
from linewise.model.runtime.quantised import Quantised, multiplies_int8

# Scaled pixels that are computed at once: bounds memory. On a CPU 128 words of 128 x 32 pixels; a GPU
# wants as much work as it can get.
CPU_PIXELS = 128 * 128 * 32
GPU_PIXELS = 8 * CPU_PIXELS

# Scaled pixels in one pass through the convolutions of a CPU: 20 words, or a line of the longest. With more
# nothing is gained, and shapes are met for which a kernel has to be made.
CPU_PASS = 20 * 128 * 32

PRECISIONS = ("auto", "float32", "bfloat16", "int8")

LEAST = 1e-30  # of a posterior whose logarithm is taken


@dataclass(frozen=True)
class _Found:
    """What one image's logits were decoded to: the best string, others that were asked for, as ids and confidence.

    `log_probs` `(T, C)` are kept where the string is doubtful.
    """

    best: ctc.Decoded
    others: tuple[tuple[tuple[int, ...], float], ...] = ()
    log_probs: torch.Tensor | None = None


@dataclass(frozen=True)
class View:
    """An image as it was looked at, the width that it was scaled to, and the log posteriors `(T, C)` of the network.

    `decoded` is what was read then, if that is known.
    """

    name: str
    pixels: Image
    scaled_width: int
    log_probs: torch.Tensor
    decoded: ctc.Decoded | None = None


@dataclass(frozen=True)
class _First:
    """The reading of an image just as it lies, and, where that is doubtful, what it was read from."""

    reading: Reading
    look: View | None


@dataclass(frozen=True)
class Window:
    """One window of one image: where in the batch's answer it belongs, and its pixels."""

    image: int
    start: int
    pixels: Image


class Reader:
    """Reads pictures that hold one line of text each.

    On a CPU several threads may read at once, on an accelerator one at a time. `model_id` names the
    model, `revision` the very weights of its network.
    """

    model_id = "linewise"

    def __init__(
        self,
        model: CRNN,
        revision: str = "unsaved",
        device: torch.device | str = "cpu",
        precision: str = "float32",
        language: LanguageModel | None = None,
    ) -> None:
        """Take over `model`, which is changed: its normalisations are folded into its convolutions.

        What is read with doubt is weighed by `language` as well; without it, by the picture alone.

        `precision` is one of `PRECISIONS`: `int8` does the convolutions in 8-bit integers, and the rest
        in bfloat16 where the processor multiplies it faster than float32. `auto` takes the first of
        int8, bfloat16 and float32 for which processor and weights are made.

        Raises:
            ValueError: another precision, or one that is impossible here.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision}")
        self.config: ModelConfig = model.config
        self.revision = revision
        self.language = language
        self.device = torch.device(device)
        self._charset = Charset(model.config.alphabet)
        self.precision = _chosen(precision, model, self.device)
        half = self.precision == "bfloat16" or (self.precision == "int8" and multiplies_bfloat16(self.device))
        self._dtype = torch.bfloat16 if half else torch.float32
        self._model = fold_normalisation(model.eval()).to(self.device)
        convert_conv2d_weight_memory_format(self._model, torch.channels_last)
        self._network: fused.Network = Plain(self._model)
        with torch.inference_mode():
            if self.precision == "int8":
                self._network = Quantised(self._model, model.config.ranges, self._dtype)
            # Converted once: autocast would convert the weights again for every batch.
            self._model.to(self._dtype)
            # A subclass computes otherwise.
            if self.precision != "int8" and type(model) is CRNN and fused.available(self.device, self._dtype):
                self._network = Fused(self._model)
        self._input = torch.float32 if self.precision == "int8" else self._dtype
        self._max_pixels = CPU_PIXELS if self.device.type == "cpu" else GPU_PIXELS
        self._pass_pixels = CPU_PASS if self.device.type == "cpu" else GPU_PIXELS

    def read(
        self,
        images: Sequence[Image],
        decodings: Sequence[Decoding | None] | None = None,
        *,
        typographic_quotes: bool = False,
    ) -> list[Reading]:
        """The text of each image, in order; an image's answer does not depend on the others.

        `images` are uint8 `(H, W)` grey or `(H, W, 3)` RGB arrays of any size. One that is much taller
        than wide is also read turned to either side, and the surest text wins. Where one is read with
        doubt, `model.decoding.rescoring` weighs what it may be, after more looks at a word, as
        `model.recognition.augmented_views` says. `decodings`,
        one per image, come from `decoding`; without one, an image is decoded greedily. Typographic quotes become
        straight ones unless `typographic_quotes` is set; outer spaces are dropped.

        Raises:
            ValueError: an array of another type or shape, or an empty one, or not as many decodings as images.
        """
        asked = [None] * len(images) if decodings is None else list(decodings)
        if len(asked) != len(images):
            raise ValueError(f"{len(asked)} decodings for {len(images)} images")
        turns = [(index, turn) for index, image in enumerate(images) for turn in _turns(image)]
        views = [turned(images[index], turn) for index, turn in turns]
        first = self._read(views, [asked[index] for index, _ in turns], typographic_quotes)
        several: list[list[_First]] = [[] for _ in images]
        for (index, turn), one in zip(turns, first, strict=True):
            several[index].append(replace(one, reading=replace(one.reading, turn=turn)) if turn else one)
        best = [_surest(firsts) for firsts in several]
        readings = [one.reading for one in best]
        doubtful = [(index, one.look) for index, one in enumerate(best) if one.look]
        with torch.inference_mode():
            again = self._look_again([look for _, look in doubtful])
            for (index, _), found in zip(doubtful, again, strict=True):
                if len(found) == 1 and self.language is None:
                    continue  # nothing to weigh
                weighed = self._weighed(found, asked[index], typographic_quotes)
                readings[index] = replace(weighed, turn=readings[index].turn)
        return readings

    def _read(self, views: Sequence[Image], asked: Sequence[Decoding | None], typographic_quotes: bool) -> list[_First]:
        """The text of each image just as it lies."""
        found: dict[int, _Found] = {}
        widths = [0] * len(views)
        with torch.inference_mode():
            for indexes, logits in self._logits(views, widths):
                found.update(self._search(indexes, logits, asked))
        return [
            _First(
                self._reading(one, view, width, decoding, typographic_quotes),
                None if one.log_probs is None else View("", view, width, one.log_probs, one.best),
            )
            for one, view, width, decoding in zip(
                (found[index] for index in range(len(views))), views, widths, asked, strict=True
            )
        ]

    def _look_again(self, firsts: Sequence[View]) -> list[list[View]]:
        """Each image as it was looked at first, and the other looks that are worth it."""
        views = [
            (index, name, view) for index, first in enumerate(firsts) for name, view in augmented_views(first.pixels)
        ]
        widths = [0] * len(views)
        found = [[first] for first in firsts]
        said: dict[int, torch.Tensor] = {}
        for numbers, logits in self._logits([view for _, _, view in views], widths):
            said.update(zip(numbers, self._log_probs(logits), strict=True))
        for number, ((index, name, view), width) in enumerate(zip(views, widths, strict=True)):
            found[index].append(View(name, view, width, said[number]))
        return found

    def _weighed(self, found: Sequence[View], asked: Decoding | None, typographic_quotes: bool) -> Reading:
        """The likeliest text after all looks, placed where the look that supports it most has it."""
        best, *others = rescore([look.log_probs for look in found], self._charset, self.language)
        look = found[best.look]
        if look.decoded is not None and look.decoded.ids == best.ids:
            decoded = replace(look.decoded, confidence=best.confidence)
        else:
            decoded = ctc.Decoded(best.ids, *ctc.align(look.log_probs, best.ids), best.confidence)
        rivals = tuple((other.ids, other.confidence) for other in others)
        reading = self._reading(_Found(decoded, rivals), look.pixels, look.scaled_width, asked, typographic_quotes)
        return spread(replace(reading, look=look.name), found[0].pixels.shape[1] / look.pixels.shape[1])

    def decoding(
        self,
        alternatives: int = 0,
        charset: str | None = None,
        charset_exclude: str = "",
        lexicon: Iterable[str] | None = None,
    ) -> Decoding | None:
        """How to decode an image, for `read`; None where nothing out of the ordinary is asked.

        `charset` are the only characters that may be read, `charset_exclude` ones that may not; the
        space is a character like any other. With a `lexicon`, the text is one of its entries, or
        several with spaces between. Confidences stay those of the unconstrained network.

        Raises:
            ValueError: fewer than 0 alternatives, a character that the model cannot write, or nothing
                left to write.
        """
        if alternatives < 0:
            raise ValueError(f"alternatives is {alternatives}, and 0 is the least")
        for name, given in (("charset", charset or ""), ("charset_exclude", charset_exclude)):
            if missing := self._charset.unsupported(given):
                raise ValueError(f"{name} has characters that the model cannot write: {missing[:20]}")
        allowed = None
        if charset is not None or charset_exclude:
            kept = set(self._charset.alphabet if charset is None else charset) - set(charset_exclude)
            if not kept - {" "}:
                raise ValueError("charset and charset_exclude leave no character that may be read")
            allowed = frozenset(self._charset.encode("".join(kept)))
        words = None if lexicon is None else Lexicon(lexicon, self._charset)
        if not alternatives and allowed is None and words is None:
            return None
        return Decoding(alternatives, allowed, words)

    def logits(self, images: Sequence[Image]) -> list[torch.Tensor]:
        """What the network says before any decoding: float32 `(T, C)` for each image, class 0 the blank.

        Raises:
            ValueError: as `read`.
        """
        found: dict[int, torch.Tensor] = {}
        with torch.inference_mode():
            for indexes, logits in self._logits(images, [0] * len(images)):
                found.update(zip(indexes, logits, strict=True))
        return [found[index] for index in range(len(images))]

    def probabilities(self, images: Sequence[Image], texts: Sequence[str], *, ignore_case: bool = False) -> list[float]:
        """How probable it is, in [0, 1], that each picture says its text: whether a line is what it should be.

        Straight and typographic quotes count as the same, as in `read`, and with `ignore_case` small
        and capital letters too. A character that the model cannot write makes it 0.

        Raises:
            ValueError: as `read`, or not as many texts as images.
        """
        if len(texts) != len(images):
            raise ValueError(f"{len(texts)} texts for {len(images)} images")

        def plain(characters: str) -> list[str]:
            return [c.lower() if ignore_case else c for c in characters.translate(STRAIGHT)]

        known = plain(self._charset.alphabet)
        classes = {character: number for number, character in enumerate(dict.fromkeys(known), start=1)}
        merged = torch.tensor([BLANK, *(classes[character] for character in known)])
        found = []
        for text, logits in zip(texts, self.logits(images), strict=True):
            if not classes.keys() >= set(plain(text)):
                found.append(0.0)
                continue
            each = (logits.cpu() / self.config.temperature).softmax(dim=-1)  # (T, C)
            together = torch.zeros(len(each), len(classes) + 1).index_add_(1, merged, each)
            ids = [classes[character] for character in plain(text)]
            (total,) = ctc.string_log_probs(together.clamp_min(LEAST).log()[None], [ids])
            found.append(min(1.0, math.exp(total)))
        return found

    def posteriors(self, image: Image) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """What the network holds probable where in one image, for explanations.

        Returns calibrated posteriors `(T, C)` in [0, 1], class 0 the blank, and the `T + 1` edges of
        their frames in pixels along the width of the image.

        Raises:
            ValueError: as `read`.
        """
        (logits,) = self.logits([image])
        found = (logits / self.config.temperature).softmax(dim=-1).cpu().numpy()
        place = self._placing(image, COLUMN * len(found))
        return found, np.array([place(frame) for frame in range(len(found) + 1)])

    @property
    def network(self) -> CRNN:
        """The network as it is run, its normalisations folded away."""
        return self._model

    def width_bucket(self, height: int, width: int) -> int:
        """Width in pixels, at the model's height, at which an image of this size is computed."""
        return preprocess.width_bucket(self.config, height, width)

    def warm_up(self) -> None:
        """Read one empty image of every width of the ladder, so that no request waits for set-up work."""
        with torch.inference_mode():
            for width in self.config.widths:
                size = (1, self.config.input_channels, self.config.height, width)
                (logits,) = self._forward([torch.zeros(size, device=self.device)])
                ctc.greedy(logits)

    def _logits(self, images: Sequence[Image], widths: list[int]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Numbers of some images and their logits `(B, T, C)`, a bounded batch at a time, until all are done.

        Enters the scaled width of every image into `widths` before the first.
        """
        by_width: defaultdict[int, list[Window]] = defaultdict(list)
        for index, image in enumerate(images):
            scaled = preprocess.scale(self.config, image)
            widths[index] = scaled.shape[1]
            for start, window in preprocess.windows(self.config, scaled):
                by_width[window.shape[1]].append(Window(index, start, window))
        unfinished: dict[int, list[tuple[int, torch.Tensor]]] = {}
        for passes in self._rounds(by_width):
            batches = [preprocess.to_tensor([p.pixels for p in batch], self.device) for batch in passes]
            for batch, logits in zip(passes, self._forward(batches), strict=True):
                yield from _finished(batch, logits, widths, unfinished)

    def _rounds(self, by_width: dict[int, list[Window]]) -> Iterator[list[list[Window]]]:
        """The passes, each over pieces of one width, in lists that are computed at once: bounded in their pixels."""
        passes: list[list[Window]] = []
        room = self._max_pixels
        for _, pieces in sorted(by_width.items()):
            height, width = pieces[0].pixels.shape[:2]
            size = height * width
            for count in pass_sizes(len(pieces), self._pass_pixels // size):
                if passes and count * size > room:
                    yield passes
                    passes, room = [], self._max_pixels
                passes.append(pieces[:count])
                pieces = pieces[count:]
                room -= count * size
        if passes:
            yield passes

    def _log_probs(self, logits: torch.Tensor) -> torch.Tensor:
        return (logits.float() / self.config.temperature).log_softmax(dim=-1)

    def _search(
        self, images: list[int], logits: torch.Tensor, asked: Sequence[Decoding | None]
    ) -> Iterator[tuple[int, _Found]]:
        """Image number and decoded text for each row of `(B, T, C)`."""
        for row, (index, best) in enumerate(zip(images, ctc.greedy(logits, self.config.temperature), strict=True)):
            decoding = asked[index]
            others: tuple[tuple[tuple[int, ...], float], ...] = ()
            if decoding is not None:
                log_probs = self._log_probs(logits[row])
                first, *rest = beam_search.search(log_probs, self._charset, decoding)
                others = tuple((other.ids, other.confidence) for other in rest)
                if first.ids != best.ids:
                    best = ctc.Decoded(first.ids, *ctc.align(log_probs, first.ids), first.confidence)
            # A text that a constraint asks for and the picture does not hold will not be likelier at another look.
            doubtful = best.confidence < RESCORE_THRESHOLD and not (decoding and decoding.constrained)
            yield index, _Found(best, others, self._log_probs(logits[row]) if doubtful else None)

    def _forward(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Normalised images `(B, C, H, W)` of one width each -> float32 logits `(B, T, C)` each."""
        taken = [images.to(self._input).contiguous(memory_format=torch.channels_last) for images in batches]
        if self.device.type == "cpu":
            return [logits.float() for logits in self._network.logits(taken)]
        # Whole float32: the shorter products of TF32 would let an answer depend on the batch size.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return [logits.float() for logits in self._network.logits(taken)]

    def _placing(self, image: Image, scaled_width: int) -> Callable[[int], float]:
        """From a frame's first column to pixels along the width of the image."""
        height, width = int(image.shape[0]), int(image.shape[1])
        left, inner = _placement(self.config, height, width, scaled_width)

        def place(frame: int) -> float:
            share = (frame * COLUMN - left) / inner
            return width * min(max(share, 0.0), 1.0)

        return place

    def _written(self, ids: Sequence[int], typographic: bool) -> str:
        text = self._charset.decode(ids)
        return text if typographic else text.translate(STRAIGHT)  # one for one, so that the spans stay true

    def _reading(
        self, found: _Found, image: Image, scaled_width: int, asked: Decoding | None, typographic: bool
    ) -> Reading:
        decoded = found.best
        text = self._written(decoded.ids, typographic)
        place = self._placing(image, scaled_width)
        characters = [
            Character(letter, confidence, place(start), place(end))
            for letter, confidence, (start, end) in zip(text, decoded.confidences, decoded.spans, strict=True)
        ]
        first = len(text) - len(text.lstrip(" "))
        text = text.strip(" ")
        kept = tuple(characters[first : first + len(text)])
        weakest = min((c.confidence for c in kept), default=decoded.confidence)
        others: dict[str, float] = {}
        for ids, confidence in found.others:  # the likeliest first, so that of equal texts the likeliest stays
            others.setdefault(self._written(ids, typographic).strip(" "), confidence)
        others.pop(text, None)
        wanted = list(others.items())[: asked.alternatives] if asked else []
        return Reading(text, decoded.confidence, weakest, kept, tuple(Alternative(*other) for other in wanted))


def _chosen(precision: str, model: CRNN, device: torch.device) -> str:
    """`precision`, or the best that processor and weights are made for; raises `ValueError` for an impossible one."""
    integers = multiplies_int8(device) and type(model) is CRNN  # a subclass computes otherwise
    if precision == "auto":
        if integers and model.config.ranges:
            return "int8"
        return "bfloat16" if multiplies_bfloat16(device) else "float32"
    if precision == "int8" and not integers:
        raise ValueError(f"precision int8 needs a processor with VNNI or AMX, and {device} here has neither")
    if precision == "int8" and not model.config.ranges:
        raise ValueError("precision int8 needs weights with ranges: linewise calibrate measures them")
    return precision


def _turns(image: Image) -> tuple[int, ...]:
    # What is no picture is turned nowhere, and told so where it is scaled.
    return preprocess.turns(image.shape[0], image.shape[1]) if image.ndim > 1 else (0,)


def _surest(firsts: Sequence[_First]) -> _First:
    """The upright reading, or a turned one that is surer; one character is too little to turn for."""
    upright, *others = firsts
    able = [upright, *(one for one in others if len(one.reading.text) > 1)]
    return max(able, key=lambda one: (bool(one.reading.text), one.reading.confidence))


def pass_sizes(count: int, most: int) -> list[int]:
    """Into passes of how many images `count` of one width are split, none above `most` (at least 1).

    All are powers of two. oneDNN makes and keeps a kernel for every shape that it meets, which takes it
    some milliseconds and megabytes; with a pass for every number of images it would never be done.
    """
    sizes = []
    while count > 0:
        sizes.append(1 << (min(count, max(1, most)).bit_length() - 1))
        count -= sizes[-1]
    return sizes


def load(
    path: str | os.PathLike[str] | None = None, device: torch.device | str | None = None, precision: str = "auto"
) -> Reader:
    """A reader with the weights of `path`, by default the shipped ones, on the GPU if there is one.

    `precision` is as for `Reader`.

    Raises:
        CheckpointError: the weights are missing, damaged or do not fit.
        ValueError: a precision that there is not, or that weights or processor cannot do.
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model, revision = load_model(DEFAULT_PATH if path is None else path)
    return Reader(model, revision, chosen, precision, load_language())


def _finished(
    batch: list[Window], logits: torch.Tensor, widths: list[int], unfinished: dict[int, list[tuple[int, torch.Tensor]]]
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Numbers of the images that a pass completes, and their logits; windows wait in `unfinished` for the others."""
    whole = [row for row, p in enumerate(batch) if widths[p.image] == p.pixels.shape[1]]
    if whole:
        yield [batch[row].image for row in whole], logits[whole]
    for row, piece in enumerate(batch):
        if widths[piece.image] == piece.pixels.shape[1]:
            continue
        parts = unfinished.setdefault(piece.image, [])
        parts.append((piece.start // COLUMN, logits[row]))
        if piece.start + piece.pixels.shape[1] == widths[piece.image]:
            yield [piece.image], join(unfinished.pop(piece.image))[None]


def join(parts: Sequence[tuple[int, torch.Tensor]]) -> torch.Tensor:
    """Logits `(T, C)` of a whole line from overlapping `(first frame, (T', C))` parts, in order.

    Each overlap is cut in its middle, where both parts have seen the most of the surroundings.
    """
    kept = []
    begin = 0
    for index, (start, logits) in enumerate(parts):
        end = start + len(logits)
        if index + 1 < len(parts):
            end = (end + parts[index + 1][0]) // 2
        kept.append(logits[begin - start : end - start])
        begin = end
    return torch.cat(kept)


def _placement(config: ModelConfig, height: int, width: int, scaled_width: int) -> tuple[int, int]:
    """Left edge and width, in scaled pixels, of the image itself within its scaled form."""
    if scaled_width != config.widths[0]:
        return 0, scaled_width
    inner = min(max(1, round(preprocess.natural_width(config, height, width))), scaled_width)
    return (scaled_width - inner) // 2, inner

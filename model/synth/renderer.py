"""Samples by number: what kind of picture, in which face, saying what; the drawing is its kind's own affair."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from linewise.model.synth import camera, scene_text, text_line
from linewise.model.synth.camera import Picture
from linewise.model.synth.sources import corpus, handwriting
from linewise.model.synth.sources.fonts import BOOK, RECEIPT, TYPEWRITER, Face, by_family

# Share of each kind of picture. A line costs three times a word, so that a third of the samples is
# half of the training's time.
KINDS = {"sign": 69, "receipt": 9, "book": 8, "typescript": 7, "screen": 2, "handwriting": 3, "nothing": 2}


@dataclass(frozen=True)
class Sample:
    """A drawn picture, uint8 `(H, W)` grey or `(H, W, 3)` RGB, with what is written in it and its kind."""

    image: Picture
    text: str
    kind: str


class Renderer:
    """Draws samples by number: `sample(i)` is the same picture whenever it is drawn again.

    `easy_until` is the number of samples over which the pictures go from clean to as hard as they
    get; CTC leaves its plateau much sooner on clean words.
    """

    def __init__(
        self, faces: Sequence[Face], seed: int = 0, easy_until: int = 0, kinds: dict[str, int] | None = None
    ) -> None:
        self.seed = seed
        self.easy_until = easy_until
        self.kinds = kinds or KINDS
        self._digits = handwriting.find_digits()
        families = by_family(faces)
        self._pools = {
            "any": _weighted(families),
            "book": _weighted({n: f for n, f in families.items() if BOOK.search(f[0].name)} or families),
            "typewriter": _weighted({n: f for n, f in families.items() if TYPEWRITER.search(f[0].name)} or families),
            "receipt": _weighted({n: f for n, f in families.items() if RECEIPT.search(f[0].name)} or families),
        }

    def sample(self, index: int) -> Sample:
        """Sample number `index` of this seed."""
        random = Random(self.seed * 1_000_003 + index)
        noise = np.random.default_rng((self.seed, index))
        ease = max(0.0, 1 - index / self.easy_until) if self.easy_until else 0.0
        kind = random.choices(list(self.kinds), weights=list(self.kinds.values()))[0]
        if ease > 0.5 and kind not in ("sign", "nothing") and random.random() < ease:
            kind = "sign"
        hardness = 1 - 0.85 * ease
        # Mostly easy and seldom all at once: where blur, noise and faintness each reach their worst
        # independently, every third word is one that nobody can read, and the net learns to guess.
        hardness *= random.random() ** 0.8
        if kind == "handwriting" and not self._digits:
            kind = "sign"
        if kind == "nothing":
            return Sample(self._nothing(random, noise, hardness), "", kind)
        if kind == "sign":
            face, set_as, written = self._face(random, "any", lambda: corpus.scene_word(random).strip() or "A")
            return Sample(scene_text.picture(random, noise, hardness, face, set_as), written, kind)
        if kind == "handwriting":
            return self._handwriting(random, noise, hardness)
        style = text_line.style(random, kind)
        face, set_as, written = self._face(random, style.pool, lambda: corpus.joined([style.write()]) or "1")
        return Sample(text_line.picture(random, noise, hardness, kind, style, face, set_as), written, kind)

    def _face(self, random: Random, pool: str, wanted: Callable[[], str]) -> tuple[Face, str, str]:
        """A face, by family, a text that it can set, and how that reads.

        The two differ in small capitals: what stands there are capitals, whatever letters called for them.
        """
        cumulative, families = self._pools[pool]
        written = wanted()
        for attempt in range(40):
            face = random.choice(random.choices(families, cum_weights=cumulative)[0])
            able = corpus.restricted(written, face.characters)
            if able is not None and (able == written or random.random() < 0.3):
                read = corpus.restricted(able.upper(), face.characters) if face.small_caps else able
                if read is not None:
                    return face, able, read
            if attempt % 8 == 7:
                written = wanted()
        plain = "".join(c for c in "TEXT 1234" if c in face.characters + " ").strip()
        return face, plain, plain

    def _nothing(self, random: Random, noise: np.random.Generator, hardness: float) -> Picture:
        """No text, or text on its side, which is not to be taken for a 1 or an l."""
        if random.random() < 0.5:
            return scene_text.empty(random, noise)
        face, written, _ = self._face(random, "any", lambda: corpus.scene_word(random).strip() or "A")
        image = scene_text.picture(random, noise, hardness, face, written)
        if len(written) < 3 or image.shape[1] < 1.5 * image.shape[0]:
            return scene_text.empty(random, noise)
        return np.ascontiguousarray(np.rot90(image, random.choice((1, 3))))

    def _handwriting(self, random: Random, noise: np.random.Generator, hardness: float) -> Sample:
        """One handwritten digit, or a row of them, on paper, on a form or white on black."""
        written = corpus.digits(random, 1, 1) if random.random() < 0.6 else corpus.digits(random, 2, 8)
        mask = handwriting.write(random, self._digits, written, random.randint(30, 44))
        height, width = mask.shape
        above, below, left, right = (round(height * random.uniform(0.02, 0.35)) for _ in range(4))
        plane = np.pad(mask, ((above, below), (left, right)))
        if random.random() < 0.1:
            text_line.ruled(random, plane, (left, above, left + width, above + height))
        choice = random.random()
        if choice < 0.35:  # as digits are stored for experiments: nothing but ink, white on black
            image = camera.resample(random, plane, random.randint(20, 40))
            return Sample(camera.jpeg(image, random.randint(70, 98)), written, "handwriting")
        image = (
            text_line.printed(random, noise, plane, "typescript")
            if choice < 0.8
            else scene_text.painted(random, noise, plane, hardness)
        )
        return Sample(scene_text.photographed(random, noise, image, hardness), written, "handwriting")


# Families by the dozen in one manner: pixels of old screens, and the novelties of one foundry.
PLENTIFUL = re.compile(r" brk$|^px |^monoi|^noto traditional|^bpg ")


def _weighted(families: dict[str, list[Face]]) -> tuple[list[float], list[list[Face]]]:
    """Families with cumulative weights: those of a plentiful manner, and capitals only, weigh less."""
    total, cumulative = 0.0, []
    for name, faces in families.items():
        total += 0.08 if PLENTIFUL.search(name) else 0.4 if "a" not in faces[0].characters else 1.0
        cumulative.append(total)
    return cumulative, list(families.values())

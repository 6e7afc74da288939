"""Render training samples by index: the kind of image, its face and its text."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from linewise.model.synth import camera, scene_text, spacing, text_line
from linewise.model.synth.camera import Image, RenderContext
from linewise.model.synth.sources import corpus, fields, handwriting
from linewise.model.synth.sources.fonts import Face, by_family, family_pools

# Share of each kind of image. A line takes three times as long as a word, so that a third of the samples is half of
# the training time.
KINDS = {"sign": 69, "receipt": 9, "book": 8, "typescript": 7, "screen": 2, "handwriting": 3, "nothing": 2}

# Families of old screen pixels and of single foundries, with dozens of similar faces. Each gets a low weight.
OVERREPRESENTED_FAMILIES = re.compile(r" brk$|^px |^monoi|^noto traditional|^bpg ")


@dataclass(frozen=True)
class Sample:
    """A rendered image, uint8 `(H, W)` grey or `(H, W, 3)` RGB, with its transcript and its kind."""

    image: Image
    text: str
    kind: str


class Renderer:
    """Renders samples by index: `sample(i)` is the same image at every call.

    The difficulty rises over the first `easy_until` samples, because CTC leaves its initial plateau much sooner on
    clean words. `kinds` maps kinds of image to weights; the default is `KINDS`.
    """

    def __init__(
        self, faces: Sequence[Face], seed: int = 0, easy_until: int = 0, kinds: dict[str, int] | None = None
    ) -> None:
        self.seed = seed
        self.easy_until = easy_until
        self.kinds = kinds or KINDS
        self._digits = handwriting.find_digits()
        pools = family_pools(by_family(faces))
        self._pools = {name: _with_cumulative_weights(families) for name, families in pools.items()}

    def sample(self, index: int) -> Sample:
        """Render sample number `index` of this seed."""
        random = Random(self.seed * 1_000_003 + index)
        noise = np.random.default_rng((self.seed, index))
        ease = max(0.0, 1 - index / self.easy_until) if self.easy_until else 0.0
        kind = random.choices(list(self.kinds), weights=list(self.kinds.values()))[0]
        if ease > 0.5 and kind not in ("sign", "nothing") and random.random() < ease:
            kind = "sign"
        # Most samples are easy. Independent worst cases of blur, noise and contrast make every third word illegible,
        # and the network learns to guess.
        difficulty = (1 - 0.85 * ease) * random.random() ** 0.8
        context = RenderContext(random, noise, difficulty)
        if kind == "handwriting" and not self._digits:
            kind = "sign"
        if kind == "nothing":
            return Sample(self._render_textless(context), "", kind)
        if kind == "sign":
            face, text, transcript = self._choose_face(random, "any", lambda: _scene_text(random))
            return Sample(scene_text.render(context, face, text), transcript, kind)
        if kind == "handwriting":
            return self._render_handwriting(context)
        style = text_line.choose_style(random, kind)
        if random.random() < spacing.GAP_SHARE:
            face, text, transcript = self._choose_face(
                random, style.pool, lambda: spacing.gap_line(random, style.write, kind)
            )
            transcript = corpus.collapse_spaces(transcript)
        else:
            face, text, transcript = self._choose_face(
                random, style.pool, lambda: corpus.collapse_spaces(style.write()) or "1"
            )
        return Sample(text_line.render(context, kind, style, face, text), transcript, kind)

    def _choose_face(self, random: Random, pool: str, write: Callable[[], str]) -> tuple[Face, str, str]:
        """Choose a face by family, a text that it can draw, and the transcript of that text.

        Text and transcript differ for faces of small capitals, whose transcript is in capitals.
        """
        cumulative_weights, families = self._pools[pool]
        text = write()
        for attempt in range(40):
            face = random.choice(random.choices(families, cum_weights=cumulative_weights)[0])
            drawable = corpus.fit_to_characters(text, face.characters)
            if drawable is not None and (drawable == text or random.random() < 0.3):
                transcript = (
                    corpus.fit_to_characters(drawable.upper(), face.characters) if face.small_caps else drawable
                )
                if transcript is not None:
                    return face, drawable, transcript
            if attempt % 8 == 7:
                text = write()
        plain = "".join(c for c in "TEXT 1234" if c in face.characters + " ").strip()
        return face, plain, plain

    def _render_textless(self, context: RenderContext) -> Image:
        """Render an image without text, or with text rotated by 90 degrees.

        Rotated text must not be read as 1 or l.
        """
        random = context.random
        if random.random() < 0.5:
            return scene_text.render_textless(random, context.noise)
        face, text, _ = self._choose_face(random, "any", lambda: _scene_text(random))
        image = scene_text.render(context, face, text)
        if len(text) < 3 or image.shape[1] < 1.5 * image.shape[0]:
            return scene_text.render_textless(random, context.noise)
        return np.ascontiguousarray(np.rot90(image, random.choice((1, 3))))

    def _render_handwriting(self, context: RenderContext) -> Sample:
        """Render one or more handwritten digits: on paper, on a sign, or white on black."""
        random = context.random
        text = fields.digits(random, 1, 1) if random.random() < 0.6 else fields.digits(random, 2, 8)
        mask = handwriting.write(random, self._digits, text, random.randint(30, 44))
        height, width = mask.shape
        above, below, left, right = (round(height * random.uniform(0.02, 0.35)) for _ in range(4))
        plane = np.pad(mask, ((above, below), (left, right)))
        if random.random() < 0.1:
            text_line.draw_rule(random, plane, (left, above, left + width, above + height))
        choice = random.random()
        if choice < 0.35:  # white on black, as in MNIST
            image = camera.resample(random, plane, random.randint(20, 40))
            return Sample(camera.compress_jpeg(image, random.randint(70, 98)), text, "handwriting")
        if choice < 0.8:
            image = text_line.print_ink(random, context.noise, plane, "typescript")
        else:
            image = scene_text.paint(context, plane)
        return Sample(scene_text.photograph(context, image), text, "handwriting")


def _scene_text(random: Random) -> str:
    """Generate a text for a sign that is not empty."""
    return corpus.scene_word(random).strip() or "A"


def _with_cumulative_weights(families: dict[str, list[Face]]) -> tuple[list[float], list[list[Face]]]:
    """Pair families with cumulative weights; overrepresented and capitals-only families weigh less."""
    total, cumulative_weights = 0.0, []
    for name, faces in families.items():
        total += 0.08 if OVERREPRESENTED_FAMILIES.search(name) else 0.4 if "a" not in faces[0].characters else 1.0
        cumulative_weights.append(total)
    return cumulative_weights, list(families.values())

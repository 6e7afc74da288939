"""Reading pictures: order, size, independence, long lines, and where the characters are."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from linewise.model import Reader
from linewise.model.decoding import ctc
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.recognition.preprocess import turned
from linewise.model.recognition.reader import join, pass_sizes
from linewise.model.runtime.fused import fold_normalisation, multiplies_bfloat16
from linewise.model.runtime.quantised import measure_ranges, multiplies_int8
from tests.model.conftest import BAR, QUOTE, SPACE, BarNet, bars, small_network


def row_of(count: int, gap: int = 16) -> NDArray[np.uint8]:
    """A line of so many bars, as high as the network sees it."""
    return bars((count + 1) * gap, dict.fromkeys(range(gap // 2, count * gap, gap), BAR))


def test_answers_come_in_the_order_of_the_images(bar_reader: Reader) -> None:
    counts = [3, 40, 1, 40, 7, 200, 3]
    readings = bar_reader.read([row_of(count) for count in counts])
    assert [r.text for r in readings] == [BAR * count for count in counts]


def test_nothing_gives_nothing(bar_reader: Reader) -> None:
    assert bar_reader.read([]) == []


def test_a_batch_larger_than_one_pass_is_read_whole(bar_reader: Reader) -> None:
    bar_reader._max_pixels = bar_reader._pass_pixels = 3 * 32 * 112
    counts = [4, 5, 6, 4, 5, 6, 5]
    readings = bar_reader.read([bars(112, dict.fromkeys(range(8, 8 + 16 * n, 16), BAR)) for n in counts])
    assert [r.text for r in readings] == [BAR * count for count in counts]


@pytest.mark.parametrize("count", [150, 300, 900])
@pytest.mark.parametrize("limit", [1, 32 * 2048 * 3, 32 * 2048 * 50])
def test_every_character_of_a_long_line_is_read_once(bar_reader: Reader, count: int, limit: int) -> None:
    bar_reader._max_pixels = bar_reader._pass_pixels = limit
    readings = bar_reader.read([row_of(count), row_of(3), row_of(count + 1)])
    assert [len(r.text) for r in readings] == [count, 3, count + 1]


def test_characters_lie_where_they_are_in_the_input(bar_reader: Reader) -> None:
    places = (16, 48, 96)
    image = np.kron(bars(128, dict.fromkeys(places, BAR)), np.ones((2, 2), np.uint8))
    (reading,) = bar_reader.read([image])
    assert [(c.start, c.end) for c in reading.characters] == [(2 * x, 2 * x + 16) for x in places]


def test_characters_of_a_long_line_lie_where_they_are(bar_reader: Reader) -> None:
    image = row_of(300)
    (reading,) = bar_reader.read([image])
    starts = np.array([c.start for c in reading.characters])
    assert np.abs(starts - (8 + 16 * np.arange(300))).max() <= 4


def test_a_character_of_a_narrow_image_lies_inside_it(bar_reader: Reader) -> None:
    (reading,) = bar_reader.read([bars(16, {4: BAR})])
    (character,) = reading.characters
    assert (character.start, character.end) == (4, 12)


def test_quotes_are_straight_unless_asked_otherwise(bar_reader: Reader) -> None:
    image = bars(64, {8: BAR, 24: QUOTE, 40: BAR})
    assert bar_reader.read([image])[0].text == "|'|"
    (typographic,) = bar_reader.read([image], typographic_quotes=True)
    assert typographic.text == "|’|" == "".join(c.text for c in typographic.characters)


def test_outer_spaces_go_and_inner_ones_stay(bar_reader: Reader) -> None:
    (reading,) = bar_reader.read([bars(96, {8: SPACE, 24: BAR, 40: SPACE, 56: BAR, 72: SPACE})])
    assert reading.text == "| |" == "".join(c.text for c in reading.characters)
    assert reading.characters[0].start == 24


def test_an_empty_picture_has_an_empty_text(bar_reader: Reader) -> None:
    (reading,) = bar_reader.read([bars(96, {8: SPACE})])
    assert reading.text == "" and reading.characters == ()
    assert reading.confidence_min == reading.confidence


def test_the_weakest_character_is_reported(bar_reader: Reader) -> None:
    image = row_of(5)
    image[:, 40:48] = 110  # a grey bar is less sure
    (reading,) = bar_reader.read([image])
    assert reading.confidence_min == min(c.confidence for c in reading.characters)
    assert reading.characters[2].confidence == reading.confidence_min


def test_the_temperature_of_the_model_is_used() -> None:
    image = row_of(5)
    sizes = {"alphabet": BAR + QUOTE + SPACE, "stem": 8, "channels": (8, 8, 8, 8), "hidden": 8}
    cold, hot = (Reader(BarNet(ModelConfig(**sizes, temperature=t))) for t in (1.0, 2.0))  # type: ignore[arg-type]
    assert hot.read([image])[0].confidence < cold.read([image])[0].confidence


def patches(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Patches of random colours: to a random network noise looks the same everywhere, and these do not."""
    few = rng.integers(0, 256, (3, 2 + size[1] // 9, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(few, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


@pytest.fixture
def talkative() -> Reader:
    """A random network whose answers differ from picture to picture, which those of most seeds do not."""
    network = small_network(10)
    with torch.no_grad():
        network.head.weight *= 20
    return Reader(network)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_answers_do_not_depend_on_batch_mates(precision: str) -> None:
    if precision == "bfloat16" and not multiplies_bfloat16("cpu"):
        pytest.skip("this processor has no instructions for bfloat16")
    if precision == "int8" and not multiplies_int8("cpu"):
        pytest.skip("this processor has no instructions for sums of 8-bit products")
    # Channel counts of a real network: oneDNN has other kernels for tiny ones.
    network = small_network(3, ModelConfig(stem=16, channels=(16, 32, 32, 64), blocks=(1, 1, 1, 1), hidden=64))
    spans = measure_ranges(fold_normalisation(copy.deepcopy(network)), [torch.randn(8, 2, 32, 256)])
    network.config = dataclasses.replace(network.config, ranges=spans)
    with torch.no_grad():
        network.head.weight *= 20
    talkative = Reader(network, precision=precision)
    assert talkative.precision == precision
    rng = np.random.default_rng(0)
    sizes = [(32, 100), (40, 130), (20, 60), (48, 300), (32, 100), (16, 3000), (64, 220), (100, 30)]
    images = [patches(rng, size) for size in sizes]
    together = talkative.read(images)
    assert len({r.text for r in together}) > 1
    for image, reading in zip(images, together, strict=True):
        (alone,) = talkative.read([image])
        assert alone.text == reading.text
        assert alone.confidence == pytest.approx(reading.confidence, abs=1e-4)
        assert alone.confidence_min == pytest.approx(reading.confidence_min, abs=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 4000), (700, 900), (5, 5, 3), (5, 5, 1)])
def test_any_size_is_read(talkative: Reader, size: tuple[int, ...]) -> None:
    (reading,) = talkative.read([np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)])
    assert 0.0 <= reading.confidence <= 1.0
    length = size[0] if reading.turn else size[1]
    assert all(0 <= c.start <= c.end <= length for c in reading.characters)
    assert all(a.end <= b.start for a, b in itertools.pairwise(reading.characters))


@pytest.mark.parametrize("quarters", [1, 3])
def test_a_line_on_its_side_is_read_as_it_would_be_upright(bar_reader: Reader, quarters: int) -> None:
    line = bars(160, {8: QUOTE, 40: BAR, 72: BAR, 104: BAR, 136: BAR})
    on_its_side = np.ascontiguousarray(np.rot90(line, quarters))
    (reading,) = bar_reader.read([on_its_side])
    assert reading.turn in (90, 270)
    (upright,) = bar_reader.read([turned(on_its_side, reading.turn)])
    assert upright.turn == 0 and len(upright.text) > 3
    assert reading == dataclasses.replace(upright, turn=reading.turn)


def test_one_character_is_not_turned_for(bar_reader: Reader) -> None:
    tall = bars(20, {6: BAR}, height=64)
    assert bar_reader.read([tall])[0].turn == 0


def test_each_view_of_a_tall_picture_is_decoded_as_asked(bar_reader: Reader) -> None:
    line = np.ascontiguousarray(np.rot90(row_of(5)))
    plain, asked = bar_reader.read([line, line], [None, bar_reader.decoding(alternatives=3)])
    assert plain.turn in (90, 270) and not plain.alternatives
    assert asked.text == plain.text and asked.alternatives


def test_a_wrong_array_is_refused(talkative: Reader) -> None:
    with pytest.raises(ValueError, match="must be"):
        talkative.read([np.zeros((4, 4, 4), np.uint8)])


def test_the_width_bucket_is_the_width_that_is_computed(talkative: Reader) -> None:
    assert talkative.width_bucket(64, 200) == 112
    assert talkative.width_bucket(32, 9001) == 9004
    assert talkative.width_bucket(200, 64) == 112


def test_warming_up_runs_every_width(talkative: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = talkative._forward

    def count(batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        seen.extend(images.shape[-1] for images in batches)
        return forward(batches)

    monkeypatch.setattr(talkative, "_forward", count)
    talkative.warm_up()
    assert seen == list(talkative.config.widths)


@pytest.mark.parametrize("most", [0, 1, 5, 64, 10_000])
def test_passes_hold_every_image_once_in_few_sizes(most: int) -> None:
    seen: set[int] = set()
    for count in range(200):
        sizes = pass_sizes(count, most)
        assert sum(sizes) == count
        assert all(1 <= size <= max(1, most) for size in sizes)
        assert len(sizes) <= count // max(1, most) * 2 + max(1, most).bit_length()
        seen.update(sizes)
    assert len(seen) <= 10
    assert all(size.bit_count() == 1 for size in seen)


def test_folded_normalisation_computes_the_same(network: CRNN) -> None:
    images = torch.randn(3, 2, 32, 96)
    with torch.inference_mode():
        before = network(images)
        folded = fold_normalisation(copy.deepcopy(network))
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
        assert torch.allclose(folded(images), before, atol=1e-4)


def test_parts_are_joined_in_the_middle_of_their_overlap() -> None:
    parts = [(start, torch.full((10, 1), float(start))) for start in (0, 6, 12, 13)]
    assert join(parts)[:, 0].tolist() == [0.0] * 8 + [6.0] * 6 + [12.0] * 3 + [13.0] * 6


def test_one_part_is_the_whole() -> None:
    logits = torch.randn(7, 3)
    assert torch.equal(join([(0, logits)]), logits)


def test_a_reading_has_the_probability_of_its_text(bar_reader: Reader) -> None:
    image = row_of(6)
    (reading,) = bar_reader.read([image])
    assert 0.5 < reading.confidence <= 1.0
    assert isinstance(ctc.greedy(torch.zeros(1, 2, 3))[0].confidence, float)


def test_the_probability_of_what_was_read_is_its_confidence(talkative: Reader) -> None:
    rng = np.random.default_rng(3)
    # Without colours, so that they are looked at once.
    images = [np.ascontiguousarray(patches(rng, (32, width))[:, :, 0]) for width in (90, 200, 400)]
    readings = talkative.read(images, typographic_quotes=True)
    assert len({reading.text for reading in readings}) > 1
    texts = [reading.text for reading in readings]
    as_read, any_case = talkative.probabilities(images, texts), talkative.probabilities(images, texts, ignore_case=True)
    for reading, exactly, loosely in zip(readings, as_read, any_case, strict=True):
        assert exactly == pytest.approx(reading.confidence, abs=1e-3)
        assert exactly - 1e-6 <= loosely <= 1
    swapped = talkative.probabilities(images, [text.swapcase() for text in texts], ignore_case=True)
    assert swapped == pytest.approx(any_case)
    assert sum(talkative.probabilities(images[:1] * 2, ["one", "another"])) < 1


def test_what_cannot_be_written_is_improbable(bar_reader: Reader) -> None:
    image = row_of(3)
    text = bar_reader.read([image])[0].text
    assert bar_reader.probabilities([image, image], [text, "中"])[1] == 0
    assert bar_reader.probabilities([image], [text])[0] > 0.5
    with pytest.raises(ValueError, match="1 texts for 2 images"):
        bar_reader.probabilities([image, image], [text])


def test_an_unknown_precision_is_refused(network: CRNN) -> None:
    with pytest.raises(ValueError, match="one of auto, float32, bfloat16, int8"):
        Reader(network, precision="float16")


def test_the_precision_is_chosen_by_the_processor(network: CRNN, monkeypatch: pytest.MonkeyPatch) -> None:
    for able, precision in (({"amx_bf16": True}, "bfloat16"), ({"avx512_bf16": False}, "float32"), ({}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert Reader(copy.deepcopy(network), precision="auto").precision == precision
    assert not multiplies_bfloat16("cuda:0")

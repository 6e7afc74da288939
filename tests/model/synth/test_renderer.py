"""Renderer: samples by index, their kinds and their transcripts."""

import numpy as np
import pytest

from linewise.model.network.charset import Charset
from linewise.model.synth.renderer import KINDS, Renderer
from linewise.model.synth.sources import handwriting
from linewise.model.synth.sources.fonts import Face


def test_an_index_renders_the_same_sample_at_every_call(faces: list[Face]) -> None:
    first, second = Renderer(faces, seed=3), Renderer(faces, seed=3)
    for index in (7, 0, 12345):
        sample, again = first.sample(index), second.sample(index)
        assert (sample.text, sample.kind) == (again.text, again.kind)
        assert np.array_equal(sample.image, again.image)
    assert any(not np.array_equal(Renderer(faces, seed=4).sample(i).image, first.sample(i).image) for i in range(3))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_renders_images_whose_text_the_alphabet_has(
    faces: list[Face], kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "handwriting":
        request.getfixturevalue("digit_images")
    renderer, charset = Renderer(faces, seed=1, kinds={kind: 1}), Charset()
    for index in range(25):
        sample = renderer.sample(index)
        assert sample.kind == kind
        assert sample.image.dtype == np.uint8
        assert sample.image.ndim == 2 or sample.image.shape[2] == 3
        assert min(sample.image.shape[:2]) >= 4
        assert charset.unsupported(sample.text) == ""
        assert sample.text == sample.text.strip()
        assert "  " not in sample.text
        assert (sample.text == "") == (kind == "nothing")


def test_without_the_digits_package_nothing_is_handwritten(faces: list[Face], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINEWISE_FONTS", raising=False)
    handwriting.find_digits.cache_clear()
    try:
        assert handwriting.find_digits() == []
        assert Renderer(faces, seed=1, kinds={"handwriting": 1}).sample(0).kind == "sign"
    finally:
        handwriting.find_digits.cache_clear()


def test_small_capitals_are_transcribed_as_capitals(faces: list[Face]) -> None:
    small = [face for face in faces if face.small_caps]
    if not small:
        pytest.skip("no face of small capitals is installed")
    renderer = Renderer(small, seed=2, kinds={"book": 1})
    texts = [renderer.sample(index).text for index in range(20)]
    assert all(not character.islower() for text in texts for character in text)
    assert any(character.isupper() for text in texts for character in text)

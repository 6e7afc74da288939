"""Handwritten digits: the held-out ones, and rows of digits."""

import zlib
from collections import Counter
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest

from linewise.model.synth.sources import handwriting


def test_handwritten_digits_leave_out_those_that_the_evaluation_reads(
    digit_images: list[list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = tmp_path / "held_out.txt"
    held_out.write_text(f"{zlib.crc32(digit_images[4][1].tobytes()):08x}\n")
    monkeypatch.setattr(handwriting, "HELD_OUT_CHECKSUMS_PATH", held_out)
    digits = handwriting.find_digits()
    assert [len(images) for images in digits] == [3, 3, 3, 3, 2, 3, 3, 3, 3, 3]
    assert np.array_equal(digits[4][1], digit_images[4][2])


def test_the_list_of_held_out_digits_names_the_thousand_of_the_evaluation() -> None:
    listed = handwriting.HELD_OUT_CHECKSUMS_PATH.read_text("ascii").split()
    assert len(set(listed)) == 1000
    assert all(0 <= int(checksum, 16) < 2**32 for checksum in listed)


@pytest.mark.usefixtures("digit_images")
def test_a_row_of_handwritten_digits_has_as_many_strokes_as_digits() -> None:
    rows = [handwriting.write(Random(seed), handwriting.find_digits(), "17", 40) for seed in range(20)]
    assert all(row.dtype == np.uint8 and row[0].any() and row[-1].any() for row in rows)
    assert all(0.85 * 40 - 1 <= row.shape[0] <= 60 for row in rows)
    counts = Counter(cv2.connectedComponents((row > 60).astype(np.uint8))[0] - 1 for row in rows)
    assert counts.most_common(1)[0][0] == 2

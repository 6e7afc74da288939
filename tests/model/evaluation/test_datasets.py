"""Labels and images of datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linewise.model.evaluation.datasets import DatasetError, open_image, read_labels, read_page_labels


def test_a_label_may_be_empty_or_hold_odd_line_ends(tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("a.png\tone\u2028two\r\n\nb.png\t\n", encoding="utf-8", newline="")
    assert [s.label for s in read_labels(tmp_path)] == ["one\u2028two", ""]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"a.png one\n", b"\xff\xfe\t\n"])
def test_unusable_labels_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.tsv").write_bytes(content)
    with pytest.raises(DatasetError, match=r"labels\.tsv"):
        read_labels(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_bytes("\ufeffa.png\tone\nb.png\ttwo\n".encode())
    assert [s.path.name for s in read_labels(tmp_path)] == ["a.png", "b.png"]
    (tmp_path / "page.png").touch()
    (tmp_path / "page.txt").write_bytes("\ufeffone".encode())
    assert read_page_labels(tmp_path)[0].texts == ("one",)
    (tmp_path / "labels.json").write_bytes("\ufeff{}".encode())
    assert read_page_labels(tmp_path) == []


def test_pictures_are_upright_grey_or_rgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGBA", (40, 20), (9, 8, 7, 255)).save(tmp_path / "colour.png")
    assert open_image(tmp_path / "turned.jpg").shape == (40, 20)
    colour = open_image(tmp_path / "colour.png")
    assert colour.shape == (20, 40, 3) and colour[0, 0].tolist() == [9, 8, 7] and colour.dtype == np.uint8


def test_folders_without_labels_say_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"labels\.json"):
        read_page_labels(tmp_path)
    (tmp_path / "labels.json").write_text('{"a.png": [{"text": 1}]}')
    with pytest.raises(DatasetError, match="text and quad"):
        read_page_labels(tmp_path)

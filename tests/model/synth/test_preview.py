"""Preview: contact sheets, labelled folders, and the command that writes both."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from linewise.model.evaluation.datasets import open_image, read_labels
from linewise.model.synth.preview import contact_sheet, labelled_folder
from linewise.model.synth.renderer import Renderer
from linewise.model.synth.sources.fonts import Face
from linewise.service.cli import main


def test_the_contact_sheet_shows_every_sample(faces: list[Face], tmp_path: Path) -> None:
    renderer = Renderer(faces, seed=2)
    captions = max(faces, key=lambda face: len(face.characters)).path
    contact_sheet((renderer.sample(i) for i in range(9)), tmp_path / "sheet.png", captions, columns=3)
    page = cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_GRAYSCALE)
    assert page is not None
    cells = [page[r * 60 : r * 60 + 60, c * 380 : c * 380 + 380] for r in range(3) for c in range(3)]
    assert all(cell.std() > 1 for cell in cells)


def test_a_labelled_folder_is_read_back_by_the_evaluation(faces: list[Face], tmp_path: Path) -> None:
    samples = [Renderer(faces, seed=6).sample(index) for index in range(30)]
    labelled_folder(samples, tmp_path / "set")
    labelled = read_labels(tmp_path / "set")
    kept = [sample for sample in samples if sample.text]
    assert [item.label for item in labelled] == [sample.text for sample in kept]
    assert all(np.array_equal(open_image(item.path), sample.image) for item, sample in zip(labelled, kept, strict=True))


def test_the_command_draws_typefaces_that_training_never_sees(faces: list[Face], tmp_path: Path) -> None:
    if not any(face.held_out for face in faces):
        pytest.skip("no family of this machine is held out")
    sheet, folder = tmp_path / "sheet.png", tmp_path / "set"
    options = ["--held-out", "--count", "5", "--sheet", str(sheet), "--folder", str(folder), "--kind", "book"]
    result = CliRunner().invoke(main.app, ["synth", *options])
    assert result.exit_code == 0, result.output
    renderer = Renderer([face for face in faces if face.held_out], 0, kinds={"book": 1})
    assert [item.label for item in read_labels(folder)] == [renderer.sample(index).text for index in range(5)]
    assert sheet.stat().st_size > 1000

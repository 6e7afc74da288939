"""An exported network is read by onnxruntime alone, and refused where it does not compute what the reader computes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from linewise.model import export
from linewise.model.network.checkpoint import DEFAULT_PATH, NetworkWeights, save
from linewise.model.network.config import ModelConfig
from linewise.model.runtime.onnx.recogniser import recogniser_graph
from linewise.service.cli import main
from tests.model.conftest import TINY, small_network

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {"receipt.png": "TOTAL EUR 12.50", "sign.jpg": "Café Central"}


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(main.app, ["export", *map(str, arguments)])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint of a tiny network."""
    path = tmp_path / "tiny.safetensors"
    save(small_network(), path)
    return path


@pytest.mark.skipif(not DEFAULT_PATH.exists(), reason="no weights in this tree")
def test_the_lines_of_the_readme_read_a_picture_without_linewise(tmp_path: Path) -> None:
    readme = (ROOT / "model" / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n([^`]*onnxruntime[^`]*)```", readme)
    (tmp_path / "lines.py").write_text(lines, encoding="utf-8")
    (tmp_path / "tests" / "data").mkdir(parents=True)
    result = run(tmp_path / "model.onnx")
    assert result.exit_code == 0, result.output
    # The folder holds nothing of Linewise, and modules that are imported are named at the end.
    program = (
        "import runpy, sys; runpy.run_path('lines.py'); print({'linewise', 'torch', 'PIL', 'onnx'} & set(sys.modules))"
    )
    for name, text in TEXTS.items():
        shutil.copy(ROOT / "tests" / "data" / name, tmp_path / "tests" / "data" / "receipt.png")
        output = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, encoding="utf-8",
            env={"PYTHONIOENCODING": "utf-8", "ORT_DISABLE_TELEMETRY": "1"}, timeout=300,
        )  # fmt: skip
        assert output.stdout == f"{text}\nset()\n"


def test_the_file_carries_its_configuration_and_takes_any_batch_and_width(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    result = run(path, "--weights", weights)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{path}: 0.")
    session = onnxruntime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    assert ModelConfig.from_json(metadata["linewise.config"]) == TINY
    assert json.loads(metadata["linewise.config"])["alphabet"] == TINY.alphabet
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", metadata["linewise.revision"])
    (images,) = session.get_inputs()
    assert (images.name, images.shape) == ("images", ["batch", TINY.input_channels, TINY.height, "width"])
    for batch, width in ((1, 32), (5, 52)):
        pictures = np.zeros((batch, TINY.input_channels, TINY.height, width), np.float32)
        assert session.run(None, {"images": pictures})[0].shape == (batch, width // 4, len(TINY.alphabet) + 1)


def test_an_existing_file_is_kept(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"mine")
    result = run(path, "--weights", weights)
    assert (result.exit_code, result.output) == (1, f"linewise: {path} exists already; name another file\n")
    assert path.read_bytes() == b"mine"


def test_a_file_that_cannot_be_written_is_named(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "nowhere" / "model.onnx"
    result = run(path, "--weights", weights)
    assert (result.exit_code, result.output) == (1, f"linewise: {path} cannot be written: No such file or directory\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the superuser may write everywhere
    result = run(tmp_path / "model.onnx", "--weights", weights)
    assert result.exit_code == 1
    assert result.output == f"linewise: {tmp_path / 'model.onnx'} cannot be written: Permission denied\n"


def test_an_unusable_checkpoint_leaves_no_file(tmp_path: Path) -> None:
    result = run(tmp_path / "model.onnx", "--weights", tmp_path / "missing")
    assert result.exit_code == 1
    assert "cannot open the checkpoint" in result.output
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_refused_and_removed(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def distorted(network: NetworkWeights[ModelConfig]) -> Any:
        tensors = {**network.tensors, "head.bias": network.tensors["head.bias"].astype(np.float32) + np.float32(0.01)}
        return original(NetworkWeights(network.config, tensors))

    original = recogniser_graph
    monkeypatch.setattr(export, "recogniser_graph", distorted)
    result = run(tmp_path / "model.onnx", "--weights", weights)
    assert result.exit_code == 1
    assert "the logits differ by 0.01 from the reader's" in result.output
    assert not (tmp_path / "model.onnx").exists()

"""The commands ``linewise read`` and ``linewise serve``: arguments, output, errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from linewise.model import CheckpointError
from linewise.service.cli import main
from linewise.service.inference.worker import CannotStart


class FakeProcess:
    """Substitute for the model process of ``linewise serve``."""

    pages = None
    start_error = ""

    def __init__(self, settings: object, pipes: int) -> None:
        self.model_id, self.revision, self.device = "fake", "sha256:00", "cpu"

    def load(self) -> None:
        if self.start_error:
            raise CannotStart(self.start_error)

    def on_lost(self, tell: object) -> None:
        """It is never lost."""

    def __enter__(self) -> FakeProcess:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to stop."""


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch, fake: Any) -> None:
    monkeypatch.setattr("linewise.service.inference.loading.load_reader", lambda settings: fake)
    monkeypatch.setattr("linewise.service.inference.worker.ModelProcess", FakeProcess)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of different brightness, one of them in a subfolder, and a text file."""
    (tmp_path / "sub").mkdir()
    for name, grey in {"b.png": 20, "a.jpg": 10, "sub/c.webp": 30}.items():
        Image.new("L", (60, 40), grey).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def run(*arguments: str | Path, stdin: bytes | None = None) -> Any:
    return CliRunner().invoke(main.app, [str(argument) for argument in arguments], input=stdin)


def test_a_single_image_prints_its_bare_text(folder: Path) -> None:
    result = run("read", folder / "b.png")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "20\n", "")


def test_a_folder_is_read_in_order_with_names(folder: Path) -> None:
    result = run("read", folder)
    assert result.exit_code == 0
    assert result.stdout == f"{folder}/a.jpg\t10\n{folder}/b.png\t20\n{folder}/sub/c.webp\t30\n"


def test_a_pattern_that_the_shell_left_alone_is_resolved(folder: Path) -> None:
    assert run("read", f"{folder}/*.png").stdout == "20\n"
    assert run("read", f"{folder}/**/*.webp").stdout == "30\n"


def test_standard_input_is_read(folder: Path) -> None:
    result = run("read", "-", stdin=(folder / "b.png").read_bytes())
    assert (result.exit_code, result.stdout) == (0, "20\n")


def test_json_has_one_object_per_line(folder: Path) -> None:
    lines = [json.loads(line) for line in run("read", "--json", folder / "b.png", folder / "a.jpg").stdout.splitlines()]
    assert [line["text"] for line in lines] == ["20", "10"]
    assert lines[0] == {
        "image": f"{folder}/b.png",
        "text": "20",
        "confidence": 0.75,
        "confidence_min": 0.5,
        "width": 60,
        "height": 40,
    }


def test_json_has_words_and_characters_on_request(folder: Path) -> None:
    bare, words, letters = (
        json.loads(run("read", "--json", "--detail", detail, folder / "b.png").stdout)
        for detail in ("text", "words", "chars")
    )
    assert "words" not in bare and "chars" not in words
    assert [word["text"] for word in words["words"]] == ["20"] and words["words"] == letters["words"]
    assert [letter["text"] for letter in letters["chars"]] == ["2", "0"]
    assert words["words"][0]["polygon"] == [[0, 0], [9, 0], [9, 40], [0, 40]]
    refused = run("read", "--detail", "words", folder / "b.png")
    assert (refused.exit_code, refused.stdout) == (2, "") and "needs --json" in refused.stderr


def test_a_bad_file_gives_one_line_and_the_others_are_still_read(folder: Path) -> None:
    (folder / "broken.png").write_bytes((folder / "b.png").read_bytes()[:40])
    result = run("read", folder / "missing.png", folder / "broken.png", folder / "notes.txt", folder / "b.png")
    assert result.exit_code == 1
    assert result.stdout == f"{folder}/b.png\t20\n"
    lines = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        f"{folder}/missing.png",
        f"{folder}/broken.png",
        f"{folder}/notes.txt",
    ]


def test_more_images_than_a_batch_keep_their_order(tmp_path: Path) -> None:
    for grey in range(1, 41):
        Image.new("L", (60, 40), grey).save(tmp_path / f"{grey:03}.png")
    result = run("read", tmp_path)
    assert [line.split("\t")[1] for line in result.stdout.splitlines()] == [str(grey) for grey in range(1, 41)]


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    result = run("read", tmp_path)
    assert (result.exit_code, result.stderr) == (1, f"linewise: no images in {tmp_path}\n")


@pytest.mark.parametrize("error", [CheckpointError, ValueError])
def test_a_model_that_cannot_be_loaded_is_one_line_on_standard_error(
    error: type[Exception], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(settings: object) -> Any:
        raise error("weights/x: not a checkpoint")

    monkeypatch.setattr("linewise.service.inference.loading.load_reader", broken)
    monkeypatch.setattr(FakeProcess, "start_error", "weights/x: not a checkpoint")
    for arguments in (("read", folder), ("serve",)):
        result = run(*arguments)
        assert (result.exit_code, result.stderr) == (1, "linewise: weights/x: not a checkpoint\n")


def test_serve_listens_on_the_given_host_and_port(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, int]] = []

    def run_server(app: object, settings: Any) -> int:
        started.append((settings.host, settings.port))
        return 0

    monkeypatch.setattr("linewise.service.server.run", run_server)
    assert run("serve").exit_code == 0
    assert run("serve", "--host", "0.0.0.0", "--allow-anonymous", "--port", "81").exit_code == 0
    assert started == [("127.0.0.1", 8000), ("0.0.0.0", 81)]


def test_serve_passes_the_servers_exit_code_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linewise.service.server.run", lambda app, settings: 3)
    assert run("serve").exit_code == 3


def test_serve_refuses_wrong_settings_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("serve", "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1 and "--allow-anonymous" in result.stderr
    monkeypatch.setenv("LINEWISE_PORT", "many")
    result = run("serve")
    assert result.exit_code == 2
    assert result.stderr.startswith("linewise: LINEWISE_PORT: ")


def test_help_does_not_wait_for_torch() -> None:
    heavy = ("torch", "cv2", "fastapi", "linewise.model.recognition")
    code = f"import sys, linewise.service.cli.main; print(any(name in sys.modules for name in {heavy}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_decoding_options_reach_the_recogniser(folder: Path, fake: Any, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("one\nzwölf\n", "utf-8")
    options = ("--alternatives", "2", "--charset", "one", "--charset-exclude", "x", "--lexicon", words)
    result = run("read", "--json", *options, folder / "b.png", folder / "a.jpg")
    assert result.exit_code == 0
    assert fake.asked == [(2, "one", "x", ["one", "zwölf"])] * 2
    assert all(json.loads(line)["alternatives"] == [] for line in result.stdout.splitlines())


def test_a_byte_order_mark_before_a_lexicon_is_left_out(folder: Path, fake: Any, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_bytes("\ufeffone\r\nzwölf\r\n".encode())
    assert run("read", "--lexicon", words, folder / "b.png").exit_code == 0
    assert fake.asked == [(0, None, "", ["one", "zwölf"])]


def test_invalid_decoding_options_are_one_line_on_standard_error(folder: Path, tmp_path: Path) -> None:
    result = run("read", "--charset", "☃", folder / "b.png")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "linewise: charset has characters that the model cannot write: ☃\n"
    latin = tmp_path / "latin.txt"
    latin.write_bytes("zwölf".encode("latin-1"))
    result = run("read", "--lexicon", latin, folder / "b.png")
    assert result.exit_code == 2
    assert "utf-8" in result.stderr


def test_only_one_image_is_explained(folder: Path, tmp_path: Path) -> None:
    result = run("read", "--explain", tmp_path / "why.png", folder / "b.png", folder / "a.jpg")
    assert (result.exit_code, result.stderr) == (2, "linewise: --explain takes one image, not 2\n")


def test_without_ray_the_error_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linewise.service.cli.common.find_spec", lambda name: None)
    result = run("serve", "--engine", "ray")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "linewise: not installed: ray; --engine ray needs pip install 'linewise[ray]'\n"


def test_invalid_replica_settings_are_one_line_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.setenv("LINEWISE_RAY_MIN_REPLICAS", "9")
    result = run("serve", "--engine", "ray")
    assert (result.exit_code, result.stderr) == (2, "linewise: min_replicas is above max_replicas\n")
    assert run("serve", "--engine", "ray", "--port", "0").exit_code == 2

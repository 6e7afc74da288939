"""The option ``--format`` of ``linewise read``: output files, standard output, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from PIL import Image
from typer.testing import CliRunner

from linewise.service.bulk.export import SUFFIXES
from linewise.service.cli import main
from tests.service.formats.samples import texts_of_pdf


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch, fake: Any) -> None:
    monkeypatch.setattr("linewise.service.inference.loading.load_reader", lambda settings: fake)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    for name, grey in {"b.png": 20, "a.jpg": 10}.items():
        Image.new("L", (60, 40), grey).save(tmp_path / "scans" / name)
    return tmp_path / "scans"


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(main.app, ["read", *(str(argument) for argument in arguments)])


def text_in(form: str, content: bytes) -> str:
    """Return the only word in a document of this format."""
    if form == "pdf":
        return texts_of_pdf(content)[0]
    if form == "json":
        return str(json.loads(content)["text"])
    if form == "text":
        return content.decode().strip()
    if form == "tsv":
        return content.decode().split()[-1]
    document = content.decode().partition("\n")[2]
    (word,) = (e for e in ET.fromstring(document).iter() if e.get("class") == "ocrx_word" or e.tag.endswith("String"))
    return word.get("CONTENT") or word.text or ""


@pytest.mark.parametrize("form", SUFFIXES)
def test_each_format_goes_to_standard_output_or_to_a_file(folder: Path, form: str) -> None:
    shown = run("--format", form, folder / "b.png")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert text_in(form, shown.stdout_bytes) == "20"
    quiet = run("--format", form, folder / "b.png", "--output", folder / f"new.{form}")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")
    assert (folder / f"new.{form}").read_bytes() == shown.stdout_bytes


@pytest.mark.parametrize("form", SUFFIXES)
def test_several_images_become_as_many_files_in_a_folder(folder: Path, tmp_path: Path, form: str) -> None:
    result = run("--format", form, folder, "--output", tmp_path / "new" / "deeper")
    assert (result.exit_code, result.stdout) == (0, "")
    written = {path.name: path.read_bytes() for path in (tmp_path / "new" / "deeper").iterdir()}
    assert sorted(written) == [f"a{SUFFIXES[form]}", f"b{SUFFIXES[form]}"]  # type: ignore[index]
    assert [text_in(form, written[name]) for name in sorted(written)] == ["10", "20"]


def test_json_and_text_of_several_images_are_printed_as_without_the_option(folder: Path) -> None:
    assert run("--format", "text", folder).stdout == run(folder).stdout
    assert run("--format", "json", folder).stdout == run("--json", folder).stdout


@pytest.mark.parametrize("form", ["hocr", "alto", "pdf"])
def test_several_images_need_a_folder(folder: Path, form: str) -> None:
    bare = run("--format", form, folder)
    assert (bare.exit_code, bare.stdout) == (2, "")
    assert "2 images" in bare.stderr and "--output FOLDER" in bare.stderr
    single = run("--format", form, folder, "--output", folder / "all.pdf")
    assert single.exit_code == 2 and "name a folder" in single.stderr
    assert not (folder / "all.pdf").exists()


def test_no_image_is_overwritten(folder: Path) -> None:
    before = (folder / "b.png").read_bytes()
    result = run("--format", "pdf", folder / "b.png", "--output", folder / "b.png")
    assert result.exit_code == 2 and "would be lost" in result.stderr
    assert (folder / "b.png").read_bytes() == before


def test_two_images_of_one_name_are_not_written_into_one_file(folder: Path, tmp_path: Path) -> None:
    Image.new("L", (60, 40), 30).save(folder / "a.png")
    result = run("--format", "text", folder, "--output", tmp_path / "new")
    assert result.exit_code == 2 and "a.jpg" in result.stderr and "a.png" in result.stderr
    assert not (tmp_path / "new").exists()


def test_an_undecodable_image_does_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.png").write_bytes(b"rubbish")
    result = run("--format", "alto", folder, folder / "missing.png", "--output", tmp_path / "new")
    assert result.exit_code == 1
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        f"{folder}/bad.png",
        f"{folder}/missing.png",
    ]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.xml", "b.xml"]


def test_conflicting_options_are_refused(folder: Path) -> None:
    for other in (["--json"], ["--explain", folder / "why.png"], ["--engine", "ray"]):
        result = run("--format", "hocr", *other, folder / "b.png")
        assert result.exit_code == 2 and "leave out" in result.stderr


def test_decoding_options_reach_the_recogniser(folder: Path, fake: Any) -> None:
    assert run("--format", "hocr", "--charset", "12", folder / "b.png").exit_code == 0
    assert fake.asked == [(0, "12", "", None)]


def test_without_the_pdf_extra_the_error_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linewise.service.formats.searchable_pdf.find_spec", lambda name: None)
    result = run("--format", "pdf", folder / "b.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1 and "pip install 'linewise[pdf]'" in result.stderr

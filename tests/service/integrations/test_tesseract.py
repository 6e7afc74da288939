"""The command that answers like tesseract, called by pytesseract and directly, under a link of that name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytesseract
import pytest
from PIL import Image, ImageDraw

from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.service.integrations.tesseract_options import LANGUAGES

DATA = Path(__file__).resolve().parents[2] / "data"
HOCR_WORD = ".//{http://www.w3.org/1999/xhtml}span[@class='ocrx_word']"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Link of the name tesseract to a program that starts the command line, as an installation has one."""
    linewise = tmp_path / "linewise"
    path = [entry for entry in sys.path if entry]
    linewise.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = {path!r}\nfrom linewise.__main__ import main\nmain()\n"
    )
    linewise.chmod(0o755)
    link = tmp_path / "tesseract"
    link.symlink_to(linewise)
    return link


@pytest.fixture
def service(
    program: Path, serve: Callable[..., AbstractContextManager[int]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The link, whose images are read by a service with the fake recogniser."""
    monkeypatch.setattr(pytesseract.pytesseract, "tesseract_cmd", str(program))
    with serve() as port:
        monkeypatch.setenv("LINEWISE_URL", f"http://127.0.0.1:{port}")
        yield program


@pytest.fixture
def page() -> Image.Image:
    """A page with two bars across it, which the fake recogniser reads as 20 and 30."""
    image = Image.new("L", (300, 200), 255)
    for left in range(0, 300, 15):  # an even bar would be no print to the choice between line and page
        dark = left // 15 % 2
        ImageDraw.Draw(image).rectangle((left, 20, left + 14, 39), fill=40 * dark)
        ImageDraw.Draw(image).rectangle((left, 100, left + 14, 139), fill=10 + 40 * dark)
    return image


def run(program: Path, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=120, **options
    )


def test_the_calls_of_pytesseract_give_what_their_callers_expect(service: Path, page: Image.Image) -> None:
    assert pytesseract.image_to_string(page, lang="eng+deu", config="--psm 6 --oem 3") == "20\n30\n\f"
    data = pytesseract.image_to_data(page, output_type=pytesseract.Output.DICT)
    assert data["level"] == [1, 2, 3, 4, 5, 4, 5]
    assert data["text"] == ["", "", "", "", "20", "", "30"]
    assert data["conf"] == [-1, -1, -1, -1, 90, -1, 90]
    assert data["line_num"] == [0, 0, 0, 1, 1, 2, 2]
    assert (data["width"][0], data["height"][0]) == (300, 200)
    # The fake recogniser's characters fill the crop of their line, whose margin is a share of its height.
    assert 16 <= data["top"][4] <= data["top"][4] + data["height"][4] <= 44
    assert 93 <= data["top"][6] <= data["top"][6] + data["height"][6] <= 147
    boxes = pytesseract.image_to_boxes(page, output_type=pytesseract.Output.DICT)
    assert boxes["char"] == ["2", "0", "3", "0"]
    assert all(156 <= bottom <= top <= 184 for bottom, top in zip(boxes["bottom"][:2], boxes["top"][:2], strict=True))
    osd = pytesseract.image_to_osd(page, output_type=pytesseract.Output.DICT)
    assert (osd["orientation"], osd["rotate"], osd["script"]) == (0, 0, "Latin")
    assert osd["orientation_conf"] == 22.5
    hocr = pytesseract.image_to_pdf_or_hocr(page, extension="hocr")
    assert [word.text for word in ET.fromstring(hocr.partition(b"\n")[2]).findall(HOCR_WORD)] == ["20", "30"]
    assert b'CONTENT="30"' in pytesseract.image_to_alto_xml(page)
    pdf = pytesseract.image_to_pdf_or_hocr(page, extension="pdf", config="--dpi 100")
    assert (pdf_text(pdf), pdf_size(pdf)) == ("20\n30", (216, 144))


def test_versions_and_languages_are_those_that_pytesseract_parses(service: Path) -> None:
    assert str(pytesseract.get_tesseract_version()) == "5.5.0"
    assert set(pytesseract.get_languages()) == LANGUAGES


def pdf_text(pdf: bytes) -> str:
    import pypdfium2

    return "\n".join(str(page.get_textpage().get_text_range()).replace("\r", "") for page in pypdfium2.PdfDocument(pdf))


def pdf_size(pdf: bytes) -> tuple[int, int]:
    import pypdfium2

    width, height = pypdfium2.PdfDocument(pdf)[0].get_size()
    return round(width), round(height)


def test_several_outputs_are_written_beside_each_other(service: Path, page: Image.Image, tmp_path: Path) -> None:
    page.save(tmp_path / "page.gif")
    output = tmp_path / "out"
    result = run(service, tmp_path / "page.gif", output, "-c", "textonly_pdf=1", "txt", "pdf", "tsv", "hocr", "alto")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "out.txt").read_text() == "20\n30\n\f"
    assert {path.name for path in tmp_path.glob("out.*")} == {"out.txt", "out.pdf", "out.tsv", "out.hocr", "out.xml"}
    text_only = (tmp_path / "out.pdf").read_bytes()
    assert pdf_text(text_only) == "20\n30"
    assert b"/Subtype /Image" not in text_only


def test_variables_with_a_meaning_reach_the_recogniser(
    service: Path, page: Image.Image, fake: Any, tmp_path: Path
) -> None:
    page.save(tmp_path / "page.png")
    words = tmp_path / "words.txt"
    words.write_text("alpha\nbeta\n")
    whitelist = ("-c", "tessedit_char_whitelist=0123", "-c", "tessedit_char_blacklist=3", "-c", "page_separator=|")
    with (tmp_path / "page.png").open() as picture:
        result = run(service, "stdin", "stdout", "--psm", "7", *whitelist, stdin=picture)
    assert (result.returncode, result.stdout) == (0, "186\n|")  # the whole picture as one line
    assert fake.asked[-1] == (0, "0123 ", "3", None)
    only_words = ("--user-words", words, "-c", "load_system_dawg=0")
    assert run(service, tmp_path / "page.png", "-", "--psm", "8", *only_words).returncode == 0
    assert fake.asked[-1] == (0, None, "", ("alpha", "beta"))
    hints = run(service, tmp_path / "page.png", "-", "--user-words", words)
    assert fake.asked.pop() is None
    assert "Linewise takes no hints" in hints.stderr
    (tmp_path / "config").write_text("# comment\ntessedit_char_whitelist 45\ntessedit_create_tsv 1\n")
    assert run(service, tmp_path / "page.png", "-", tmp_path / "config").stdout.startswith("level\tpage_num")
    assert fake.asked[-1][1] == "45 "


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.png", "-"], 1, "Error, cannot read input file none.png: No such file or directory\nError during"),
        (["page.png"], 1, ""),
        ([], 1, ""),
        (["notes.txt", "-"], 1, "Error, The bytes are not those of a PNG"),
        (["broken.gif", "-"], 1, "Error, cannot read input file broken.gif"),
        (["page.png", "-", "-l", "xyz"], 1, "Failed loading language 'xyz'\nTesseract couldn't load any languages!"),
        (["page.png", "-", "-l", "eng+xyz"], 0, "Failed loading language 'xyz'"),
        (["page.png", "-", "-c", "nonsense=3"], 0, "Could not set option: nonsense=3"),
        (["page.png", "-", "-c", "nonsense"], 1, "Missing = in configvar assignment"),
        (["page.png", "-", "-c", "tessedit_create_unlv=1"], 1, "Could not set option: tessedit_create_unlv=1"),
        (["page.png", "-", "-c", "textonly_pdf=maybe"], 1, "The value must be 0 or 1"),
        (["page.png", "-", "--dpi", "many"], 1, "The value must be a whole number"),
        (["page.png", "-", "--psm", "99"], 1, "Invalid PSM value, please enter a number between 0-13"),
        (["page.png", "-", "--psm", "5"], 1, "PSM 5 is not supported: Linewise has no vertical text"),
        (["page.png", "-", "--oem", "9"], 1, "Invalid OEM value, please enter a number between 0-3"),
        (["page.png", "-", "--psm"], 1, "Error, unknown command line argument '--psm'"),
        (["page.png", "-", "--foo"], 1, "Error, unknown command line argument '--foo'"),
        (["page.png", "-", "foo"], 0, "read_params_file: Can't open foo"),
        (["page.png", "-", "lstmbox"], 1, "The output lstmbox is not supported"),
        (["page.png", "nowhere/out"], 1, "Error, could not create TXT output file: No such file or directory"),
        (["white.png", "-", "--psm", "0"], 1, "Too few characters. Skipping this page\nError during processing."),
        (["page.png", "-", "-c", "tessedit_char_whitelist=☃"], 1, "charset has characters that the model cannot write"),
        (["page.png", "-", "--user-words", "none", "-c", "load_system_dawg=0"], 1, "cannot read user words none"),
    ],
)
def test_errors_and_exit_codes_are_those_of_tesseract(
    service: Path, page: Image.Image, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    page.save(tmp_path / "page.png")
    Image.new("L", (300, 200), 255).save(tmp_path / "white.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    result = run(service, *arguments, cwd=tmp_path)
    assert result.returncode == code
    assert words in result.stderr
    assert bool(result.stderr) == bool(words)
    assert result.stdout.startswith("Usage:") if not words else bool(result.stdout) == (code == 0)


def test_an_upside_down_page_has_its_places_in_the_stored_picture(
    program: Path, serve: Any, page: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    page.save(tmp_path / "page.png", exif=exif)
    with serve() as port:
        environment = os.environ | {"LINEWISE_URL": f"http://127.0.0.1:{port}"}
        result = run(program, tmp_path / "page.png", "-", "tsv", env=environment)
    assert result.stderr == ""
    rows = [line.split("\t") for line in result.stdout.splitlines() if line.startswith("5")]
    assert [row[11] for row in rows] == ["30", "20"]
    assert 93 <= int(rows[0][7]) < 140 and 16 <= int(rows[1][7]) < 40


def test_a_service_that_is_away_or_wants_a_key_is_named(
    program: Path, serve: Any, page: Image.Image, tmp_path: Path
) -> None:
    page.save(tmp_path / "page.png")
    away = run(program, tmp_path / "page.png", "-", env=os.environ | {"LINEWISE_URL": "http://127.0.0.1:9"})
    assert (away.returncode, away.stdout) == (1, "")
    assert "the service at http://127.0.0.1:9 (LINEWISE_URL) is away: Connection refused" in away.stderr
    key = "a-key-of-sixteen-characters"
    with serve(api_keys=key) as port:
        environment = os.environ | {"LINEWISE_URL": f"http://127.0.0.1:{port}"}
        refused = run(program, tmp_path / "page.png", "-", env=environment)
        accepted = run(program, tmp_path / "page.png", "-", env=environment | {"LINEWISE_API_KEY": key})
    assert refused.returncode == 1 and "(unauthorized, status 401)" in refused.stderr
    assert accepted.stdout == "20\n30\n\f"


def test_the_remote_command_imports_no_numerical_library(service: Path, page: Image.Image, tmp_path: Path) -> None:
    page.save(tmp_path / "page.png")
    code = (
        "import sys; from linewise.service.integrations.tesseract import main;"
        f"assert main([{str(tmp_path / 'page.png')!r}, '-', 'tsv', 'hocr', 'txt']) == 0;"
        "assert not {'numpy', 'PIL', 'torch', 'fastapi', 'typer', 'httpx2', 'pydantic'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason="no weights in this tree")
def test_the_networks_of_the_package_read_by_themselves(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytesseract.pytesseract, "tesseract_cmd", str(program))
    assert pytesseract.image_to_string(Image.open(DATA / "receipt.png"), config="--psm 7") == "TOTAL EUR 12.50\n\f"

"""Whole service and command line with the shipped weights, from picture to text."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageChops, ImageDraw, ImageFont
from typer.testing import CliRunner

from linewise import model
from linewise.service.app import create_app
from linewise.service.cli import main
from linewise.service.settings import Settings

TEXT = "Invoice 1042"


def line(text: str = TEXT, ink: Any = 0, paper: Any = 255, mode: str = "L") -> Image.Image:
    font = ImageFont.load_default(32)
    width = int(font.getlength(text)) + 24
    image = Image.new(mode, (width, 48), paper)
    ImageDraw.Draw(image).text((12, 4), text, fill=ink, font=font)
    return image


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    try:
        reader = model.load(device="cpu")
    except model.CheckpointError as error:
        pytest.skip(f"no weights in this tree: {error}")
    with TestClient(create_app(Settings(), reader, model.load_page_reader(reader=reader))) as client:
        while client.get("/healthz/ready").status_code != 200:
            time.sleep(0.01)
        yield client


def read(client: TestClient, data: bytes, **options: str) -> dict[str, Any]:
    response = client.post("/recognize", content=data, params=options)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_a_drawn_line_is_read(client: TestClient) -> None:
    body = read(client, encode(line()))
    assert body["text"] == TEXT
    assert body["confidence"] > 0.5
    assert body["model"]["revision"].startswith("sha256:")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_every_format_gives_the_text(client: TestClient, file_format: str) -> None:
    assert read(client, encode(line().convert("RGB"), file_format))["text"] == TEXT


def test_pictures_of_every_kind_give_the_text(client: TestClient) -> None:
    black = line()
    clear = (0, 0, 0, 0)
    sixteen = Image.fromarray(np.asarray(black).astype(np.uint16) * 257)
    kinds = {
        "palette": encode(black.convert("P")),
        "bilevel": encode(black.convert("1")),
        "16 bit": encode(sixteen),
        "CMYK": encode(black.convert("CMYK"), "JPEG"),
        "white on black": encode(ImageChops.invert(black)),
        "black on transparent": encode(line(mode="RGBA", ink=(0, 0, 0, 255), paper=clear)),
        "white on transparent": encode(line(mode="RGBA", ink=(255, 255, 255, 255), paper=clear)),
    }
    assert {kind: read(client, data)["text"] for kind, data in kinds.items()} == dict.fromkeys(kinds, TEXT)


@pytest.mark.parametrize(("orientation", "turn"), [(3, 180), (6, 90), (8, 270)])
def test_a_picture_that_lies_on_its_side_is_read_upright(client: TestClient, orientation: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = line().rotate(turn, expand=True)  # counterclockwise; the metadata demand the opposite rotation
    body = read(client, encode(lying.convert("RGB"), "JPEG", exif=exif, quality=95))
    assert (body["text"], body["image"]["orientation_applied"]) == (TEXT, turn)


def test_an_upside_down_picture_is_recognised_as_such(client: TestClient) -> None:
    body = read(client, encode(line().rotate(180)), orientation="auto")
    assert (body["text"], body["image"]["orientation_applied"]) == (TEXT, 180)
    assert read(client, encode(line()), orientation="auto")["image"]["orientation_applied"] == 0


def test_alternatives_are_less_confident_than_the_text(client: TestClient) -> None:
    plain, body = read(client, encode(line())), read(client, encode(line()), alternatives="5", detail="chars")
    assert body["text"] == plain["text"] == TEXT
    assert "".join(one["text"] for one in body["chars"]) == TEXT
    confidences = [body["confidence"], *(alternative["confidence"] for alternative in body["alternatives"])]
    assert len(confidences) > 1 and confidences == sorted(confidences, reverse=True)
    assert TEXT not in [alternative["text"] for alternative in body["alternatives"]]


def test_only_allowed_characters_are_read(client: TestClient) -> None:
    body = read(client, encode(line()), charset="0123456789", detail="chars")
    assert body["text"].isdecimal()
    assert "".join(one["text"] for one in body["chars"]) == body["text"]
    assert body["confidence"] < 0.1  # the picture shows other characters
    assert not set(read(client, encode(line()), charset_exclude="1I")["text"]) & {"1", "I"}


def test_a_lexicon_decides_between_similar_characters(client: TestClient) -> None:
    words = ["invoice", "INVOLCE", "1042", "1O42", "RECEIPT", TEXT.split()[0]]
    response = client.post("/recognize", files={"file": encode(line())}, data={"lexicon": "\n".join(words)})
    assert response.json()["text"] == TEXT
    response = client.post("/recognize", files={"file": encode(line())}, data={"lexicon": "1042\nReceipt\nInvolce"})
    assert response.json()["text"] == "Involce 1042"


def test_a_lexicon_with_many_ways_to_split_a_line_is_answered(client: TestClient) -> None:
    text = " ".join(["New York"] * 20)
    response = client.post("/recognize", files={"file": encode(line(text))}, data={"lexicon": "New\nYork\nNew York"})
    assert response.status_code == 200, response.text
    assert response.json()["text"] == text


def test_characters_lie_in_order_where_the_ink_is(client: TestClient) -> None:
    image = line()
    chars = read(client, encode(image), detail="chars")["chars"]
    assert "".join(one["text"] for one in chars) == TEXT
    centres = [(one["polygon"][0][0] + one["polygon"][1][0]) / 2 for one in chars]
    assert centres == sorted(centres)
    font = ImageFont.load_default(32)
    expected = [12 + font.getlength(TEXT[:i]) + font.getlength(TEXT[i]) / 2 for i in range(len(TEXT))]
    assert max(abs(centre - other) for centre, other in zip(centres, expected, strict=True)) < 16


def test_equal_bytes_give_equal_answers_alone_in_a_batch_and_under_load(client: TestClient) -> None:
    texts = ["Total 12.50", "a", "The quick brown fox jumps over the lazy dog", TEXT, "No. 7"]
    pictures = [encode(line(text)) for text in texts]
    alone = [read(client, data) for data in pictures]
    expected = [(result["text"], result["confidence"]) for result in alone]
    batch = client.post("/recognize/batch", files=[("files", data) for data in pictures * 3]).json()["results"]
    assert [(result["text"], result["confidence"]) for result in batch] == expected * 3
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda data: read(client, data), pictures * 4))
    assert [(result["text"], result["confidence"]) for result in loaded] == expected * 4


def test_an_empty_picture_has_no_text(client: TestClient) -> None:
    body = read(client, encode(Image.new("L", (200, 40), 255)))
    assert (body["text"], body["warnings"]) == ("", ["no_text"])


def test_the_command_line_prints_the_text(client: TestClient, tmp_path: Path) -> None:
    line().save(tmp_path / "line.png")
    result = CliRunner().invoke(main.app, ["read", "--device", "cpu", str(tmp_path / "line.png")])
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")


LETTER = ["Dear customer", "Thank you for your order", "With kind regards"]


def letter() -> Image.Image:
    page = Image.new("L", (560, 300), 255)
    for number, text in enumerate(LETTER):
        ImageDraw.Draw(page).text((40, 40 + 80 * number), text, fill=20, font=ImageFont.load_default(28))
    return page


def test_a_page_is_read_line_by_line(client: TestClient) -> None:
    for mode in ("page", "auto"):
        body = read(client, encode(letter()), mode=mode, detail="chars")
        assert body["mode"] == "page"
        assert body["text"].split("\n") == LETTER
        for number, line in enumerate(body["lines"]):
            ys = [y for _, y in line["polygon"]]
            assert 30 + 80 * number < min(ys) < max(ys) < 90 + 80 * number
            assert "".join(letter["text"] for letter in line["chars"]) == LETTER[number]


def test_a_single_line_stays_one_for_auto(client: TestClient) -> None:
    body = read(client, encode(line()), mode="auto")
    assert (body["mode"], body["text"]) == ("line", TEXT)


def test_the_command_line_reads_pages(tmp_path: Path) -> None:
    letter().save(tmp_path / "a.png")
    letter().rotate(180).save(tmp_path / "b.png")
    shown = CliRunner().invoke(main.app, ["read", "--page", str(tmp_path / "a.png")])
    assert (shown.exit_code, shown.stdout.splitlines()) == (0, LETTER)
    as_json = CliRunner().invoke(main.app, ["read", "--page", "--json", str(tmp_path)])
    first, second = (json.loads(line) for line in as_json.stdout.splitlines())
    assert [first["text"].split("\n"), second["text"].split("\n")] == [LETTER, LETTER]
    assert (first["turn"], second["turn"]) == (0, 180)
    refused = CliRunner().invoke(main.app, ["read", "--page", "--charset", "0123", str(tmp_path)])
    assert refused.exit_code == 2 and "--charset" in refused.stderr


def test_a_letter_becomes_a_searchable_pdf_over_http_and_on_the_command_line(
    client: TestClient, tmp_path: Path
) -> None:
    (tmp_path / "letter.png").write_bytes(encode(letter()))
    letter().convert("RGB").save(
        tmp_path / "two.pdf", save_all=True, append_images=[letter().convert("RGB")], resolution=200.0
    )
    for name, pages in (("letter.png", 1), ("two.pdf", 2)):
        data = (tmp_path / name).read_bytes()
        response = client.post(
            "/recognize", content=data, params={"mode": "page"}, headers={"accept": "application/pdf"}
        )
        assert response.status_code == 200, response.text
        target = tmp_path / f"new-{name}.pdf"
        result = CliRunner().invoke(
            main.app, ["read", "--page", "--format", "pdf", str(tmp_path / name), "--output", str(target)]
        )
        assert (result.exit_code, result.stderr) == (0, "")
        for pdf in (response.content, target.read_bytes()):
            with pypdfium2.PdfDocument(pdf) as document:
                assert len(document) == pages
                for page in document:
                    text = page.get_textpage()
                    assert text.get_text_range().split("\r\n") == LETTER
                    search = text.search("order")
                    index, count = search.get_next()
                    left, _, _, top = (side * 200 / 72 for side in text.get_charbox(index))
                    ink = 40 + ImageFont.load_default(28).getlength("Thank you for your ")
                    assert (left, page.get_height() * 200 / 72 - top) == pytest.approx((ink, 120), abs=14)
                    assert count == len("order")
                    search.close()
                    text.close()

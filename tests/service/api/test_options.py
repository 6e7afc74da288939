"""Options work alike in query, form and JSON; invalid ones are refused by name."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from linewise.model import Alternative, Character, Reading


def encode(pixels: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


GREY_123 = encode(np.full((40, 60), 123, np.uint8))


def ask(client: TestClient, data: bytes = GREY_123, **options: str) -> dict[str, Any]:
    response = client.post("/recognize", content=data, params=options)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def test_characters_are_omitted_by_default(client: TestClient) -> None:
    assert "chars" not in ask(client)
    assert "chars" not in ask(client, detail="text")


def test_characters_have_clockwise_polygons_in_image_pixels(client: TestClient) -> None:
    chars = ask(client, detail="chars")["chars"]
    assert "".join(char["text"] for char in chars) == "123"
    assert chars[1] == {
        "text": "2",
        "confidence": 0.9,
        "polygon": [[5.0, 0.0], [9.0, 0.0], [9.0, 40.0], [5.0, 40.0]],
    }


def test_each_level_of_detail_adds_to_the_one_before(client: TestClient) -> None:
    words = ask(client, detail="words")
    assert "chars" not in words
    assert words["words"] == [
        {"text": "123", "confidence": 0.9, "polygon": [[0.0, 0.0], [14.0, 0.0], [14.0, 40.0], [0.0, 40.0]]}
    ]
    assert ask(client, detail="chars")["words"] == words["words"]
    assert "words" not in ask(client)


def test_polygons_of_a_downscaled_image_are_in_original_pixels(client: TestClient) -> None:
    body = ask(client, encode(np.full((2000, 3000), 123, np.uint8)), detail="chars")
    scale = 2000 // 256
    (left, _), (right, _), (_, bottom), _ = body["chars"][1]["polygon"]
    assert (left, right, bottom) == (pytest.approx(5.0 * scale, rel=0.01), pytest.approx(9.0 * scale, rel=0.01), 2000)


def test_polygons_stay_within_the_image(client: TestClient, fake: Any) -> None:
    body = ask(client, encode(np.full((40, 12), 123, np.uint8)), detail="chars")
    assert max(x for char in body["chars"] for x, _ in char["polygon"]) <= 12


def test_a_text_below_min_confidence_is_withheld(client: TestClient) -> None:
    assert ask(client, min_confidence="0.75")["text"] == "123"
    body = ask(client, min_confidence="0.76", detail="chars")
    assert (body["text"], body["chars"], body["warnings"]) == ("", [], ["low_confidence"])
    assert body["confidence"] == 0.75


@pytest.mark.parametrize(("turn", "corner"), [("0", (0, 0)), ("90", (0, -1)), ("180", (-1, -1)), ("270", (-1, 0))])
def test_orientation_rotates_clockwise(client: TestClient, fake: Any, turn: str, corner: tuple[int, int]) -> None:
    pixels = np.full((40, 60), 255, np.uint8)
    pixels[:10, :10] = 0
    body = ask(client, encode(pixels), orientation=turn)
    assert fake.seen[-1][corner] == 0
    assert body["image"]["orientation_applied"] == int(turn)
    expected = (40, 60) if turn in ("90", "270") else (60, 40)
    assert (body["image"]["width"], body["image"]["height"]) == expected


def test_orientation_adds_to_the_exif_orientation(client: TestClient) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    body = ask(client, encode(np.full((40, 60), 9, np.uint8), exif=exif), orientation="270")
    assert body["image"] == {"width": 60, "height": 40, "format": "PNG", "orientation_applied": 0}


@pytest.mark.parametrize("upside_down", [False, True])
def test_auto_orientation_keeps_the_more_confident_text(client: TestClient, fake: Any, upside_down: bool) -> None:
    def reading(image: Any) -> Reading:
        return Reading("right", 0.9, 0.9, ()) if image[0, 0] == 0 else Reading("wrong", 0.8, 0.8, ())

    fake.reading = reading
    pixels = np.full((40, 60), 255, np.uint8)
    pixels[(-1, -1) if upside_down else (0, 0)] = 0
    body = ask(client, encode(pixels), orientation="auto", mode="line")
    assert body["text"] == "right"
    assert body["image"]["orientation_applied"] == (180 if upside_down else 0)


def test_a_rotation_by_the_recogniser_is_reported_with_its_polygons(client: TestClient, fake: Any) -> None:
    letters = (Character("u", 0.9, 1.0, 20.0, 4.0, 15.0), Character("p", 0.9, 30.0, 60.0, 5.0, 20.0))
    fake.reading = lambda image: Reading("up", 0.9, 0.9, letters, turn=270)
    body = ask(client, encode(np.full((60, 20), 9, np.uint8)), detail="chars")
    assert body["image"] == {"width": 60, "height": 20, "format": "PNG", "orientation_applied": 270}
    assert body["chars"][1]["polygon"] == [[30, 5], [60, 5], [60, 20], [30, 20]]


def test_auto_orientation_prefers_text_to_a_confident_empty_result(client: TestClient, fake: Any) -> None:
    fake.reading = lambda image: Reading("text", 0.3, 0.3, ()) if image[0, 0] == 0 else Reading("", 0.99, 0.99, ())
    pixels = np.full((40, 60), 255, np.uint8)
    pixels[0, 0] = 0
    assert ask(client, encode(pixels), orientation="auto", mode="line")["text"] == "text"


def test_options_are_accepted_in_query_form_and_json(client: TestClient) -> None:
    encoded = base64.b64encode(GREY_123).decode()
    answers = [
        client.post("/recognize?detail=chars", files={"file": GREY_123}),
        client.post("/recognize", files={"file": GREY_123}, data={"detail": "chars"}),
        client.post("/recognize?detail=text", files={"file": GREY_123}, data={"detail": "chars"}),
        client.post("/recognize", json={"image": encoded, "detail": "chars", "min_confidence": 0.1}),
    ]
    assert [len(answer.json()["chars"]) for answer in answers] == [3, 3, 3, 3]
    for sent in (
        {"params": {"detail": "chars"}, "files": {"files": GREY_123}},
        {"data": {"detail": "chars"}, "files": {"files": GREY_123}},
        {"json": {"images": [{"image": encoded}], "detail": "chars"}},
    ):
        assert len(client.post("/recognize/batch", **sent).json()["results"][0]["chars"]) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("detail", "everything"),
        ("detail", ""),
        ("min_confidence", "1.1"),
        ("min_confidence", "-0.1"),
        ("min_confidence", "nan"),
        ("min_confidence", "much"),
        ("orientation", "45"),
        ("orientation", "-90"),
        ("alternatives", "11"),
        ("alternatives", "-1"),
        ("alternatives", "some"),
        ("charset", ""),
        ("charset", "a" * 1001),
        ("charset", "☃"),
        ("charset_exclude", "a" * 1001),
        ("language", "en"),
    ],
)
def test_an_invalid_option_is_refused_by_name_everywhere(client: TestClient, name: str, value: str) -> None:
    encoded = base64.b64encode(GREY_123).decode()
    for response in (
        client.post("/recognize", content=GREY_123, params={name: value}),
        client.post("/recognize", files={"file": GREY_123}, data={name: value}),
        client.post("/recognize", json={"image": encoded, name: value}),
    ):
        assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
        assert name in response.json()["detail"]
        assert value == "" or value not in response.json()["detail"].replace(name, "").split(": ", 1)[0]


def test_a_repeated_form_field_is_refused(client: TestClient) -> None:
    response = client.post("/recognize", files={"file": GREY_123}, data={"detail": ["chars", "text"]})
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")


def test_options_apply_to_their_request_only(client: TestClient) -> None:
    ask(client, detail="chars", min_confidence="1")
    body = ask(client)
    assert body["text"] == "123" and "chars" not in body


def test_alternatives_are_included_on_request(client: TestClient, fake: Any) -> None:
    others = (Alternative("l23", 0.2), Alternative("12B", 0.123456))
    fake.reading = lambda image: Reading("123", 0.75, 0.5, (), others)
    assert "alternatives" not in ask(client)
    body = ask(client, alternatives="3")
    assert body["alternatives"] == [{"text": "l23", "confidence": 0.2}, {"text": "12B", "confidence": 0.1235}]
    assert fake.asked == [None, (3, None, "", None)]
    assert ask(client, alternatives="3", min_confidence="0.9")["alternatives"] == []
    batch = client.post("/recognize/batch?alternatives=2", files={"files": GREY_123}).json()
    assert [alternative["text"] for alternative in batch["results"][0]["alternatives"]] == ["l23", "12B"]


def test_decoding_constraints_reach_the_recogniser(client: TestClient, fake: Any) -> None:
    ask(client, charset="0123456789", charset_exclude="0")
    encoded = base64.b64encode(GREY_123).decode()
    words = ["INVOICE", "two words", "quote’s"]
    for sent in (
        {"json": {"image": encoded, "lexicon": words}},
        {"files": {"file": GREY_123}, "data": {"lexicon": "INVOICE\r\ntwo words\n\nquote’s\n"}},
    ):
        assert client.post("/recognize", **sent).status_code == 200
    assert client.post("/recognize/batch", json={"images": [{"image": encoded}] * 2, "lexicon": words}).is_success
    constrained = (0, None, "", tuple(words))
    assert fake.asked == [(0, "0123456789", "0", None), *[constrained] * 4]


def test_a_byte_order_mark_before_a_lexicon_is_left_out(client: TestClient, fake: Any) -> None:
    encoded = base64.b64encode(GREY_123).decode()
    for body in (
        {"json": {"image": encoded, "lexicon": ["\ufeffINVOICE", "two words"]}},
        {"files": {"file": GREY_123}, "data": {"lexicon": "\ufeffINVOICE\r\ntwo words\r\n"}},
    ):
        fake.asked.clear()
        assert client.post("/recognize", **body).status_code == 200
        assert fake.asked == [(0, None, "", ("INVOICE", "two words"))]


@pytest.mark.parametrize(
    "lexicon", [[], ["x" * 257], [""] * 100_001, [1], {"a": 1}, "\n", "x" * 257], ids=lambda lexicon: str(lexicon)[:12]
)
def test_an_invalid_lexicon_is_refused(client: TestClient, lexicon: Any) -> None:
    response = client.post("/recognize", json={"image": base64.b64encode(GREY_123).decode(), "lexicon": lexicon})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
    assert "lexicon" in response.json()["detail"]


def test_a_lexicon_in_the_query_is_refused(client: TestClient) -> None:
    response = client.post("/recognize", params={"lexicon": "word"}, content=GREY_123)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
    assert "lexicon" in response.json()["detail"]


def test_a_lexicon_of_ninety_thousand_words_fits_into_a_form(client: TestClient, fake: Any) -> None:
    words = [f"word{number:07}" for number in range(90_000)]
    response = client.post("/recognize", files={"file": GREY_123}, data={"lexicon": "\n".join(words)})
    assert response.status_code == 200
    assert fake.asked[-1][3] == tuple(words)


def test_the_documentation_lists_every_option_in_query_form_and_json(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    names = {"detail", "alternatives", "charset", "charset_exclude", "min_confidence", "orientation", "mode"}
    for route in ("/recognize", "/recognize/batch"):
        operation = document["paths"][route]["post"]
        query = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
        assert query == names
        content = operation["requestBody"]["content"]
        for kind in ("multipart/form-data", "application/json"):
            fields = content[kind]["schema"]["properties"]
            assert names | {"lexicon"} < fields.keys()
            assert all(fields[name]["description"] for name in names | {"lexicon"})
        assert content["multipart/form-data"]["schema"]["properties"]["lexicon"]["type"] == "string"
        assert "$ref" not in str(content)

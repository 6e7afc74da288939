"""Multipart forms: charsets that decode to no text, and extended file names."""

from __future__ import annotations

import encodings
import io
import json
import pkgutil
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

NDJSON = {"accept": "application/x-ndjson"}
NOT_TEXT = [
    ("undefined", b"a.png"),
    ("punycode", b"a-\xc3.png"),
    ("punycode", b"a.png"),
    ("unicode_escape", rb"\ud800.png"),
    ("raw_unicode_escape", rb"\ud800.png"),
    ("utf-7", b"+2AA-.png"),
]


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (60, 40), 77).save(buffer, "PNG")
    return buffer.getvalue()


def part(field: bytes, disposition: bytes) -> bytes:
    return b'--BB\r\nContent-Disposition: form-data; name="' + field + b'"; ' + disposition + b"\r\n\r\n"


def post(client: TestClient, path: str, body: bytes, charset: str = "", headers: dict[str, str] | None = None) -> Any:
    content_type = "multipart/form-data; boundary=BB" + (f"; charset={charset}" if charset else "")
    return client.post(path, content=body + b"--BB--\r\n", headers={"content-type": content_type} | (headers or {}))


@pytest.mark.parametrize(("charset", "filename"), NOT_TEXT)
@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_a_charset_that_decodes_to_no_text_is_refused(
    client: TestClient, charset: str, filename: bytes, accept: str
) -> None:
    headers = {"accept": accept}
    for path, field in (("/recognize", b"file"), ("/recognize/batch", b"files")):
        body = part(field, b'filename="' + filename + b'"') + png() + b"\r\n"
        if accept == "application/x-ndjson" and path == "/recognize":
            continue
        response = post(client, path, body, charset, headers)
        assert (response.status_code, response.json()["code"]) == (400, "bad_request")
        assert "charset" in response.json()["detail"] and "UTF-8" in response.json()["detail"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_charset_makes_a_server_error(client: TestClient) -> None:
    for charset in sorted(module.name for module in pkgutil.iter_modules(encodings.__path__)):
        for name in (b"a.png", rb"\ud800", b"+2AA-", b"\xff\xfe\x00\xd8"):
            body = part(b"files", b'filename="' + name + b'"') + png() + b"\r\n"
            body += b'--BB\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + name + b"\r\n"
            assert post(client, "/recognize/batch", body, charset, NDJSON).status_code in (400, 422), charset


def test_a_lone_surrogate_in_json_is_refused(client: TestClient) -> None:
    body = b'{"images": [{"id": "\\ud800", "image": "AAAA"}]}'
    response = client.post("/recognize/batch", content=body, headers=NDJSON | {"content-type": "application/json"})
    assert response.status_code == 400


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "utf8", "iso-8859-1", "windows-1252", "shift_jis", "nonsense"])
def test_other_charsets_are_accepted(client: TestClient, charset: str) -> None:
    body = part(b"file", b'filename="a.png"') + png() + b"\r\n"
    assert post(client, "/recognize", body, charset).json()["text"] == "77"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b"filename*=UTF-8''%e2%82%ac%20rates.png", "€ rates.png"),
        (b"filename*=iso-8859-1'en'%A3%20rates.png", "£ rates.png"),
        (b"filename*=undefined''a.png", "a.png"),
        (b"filename*=UTF-8''%ff.png", "\ufffd.png"),
        (b"filename*=a.png", "a.png"),
        (b"filename*=UTF-8''b.png; filename=\"a.png\"", "a.png"),
    ],
)
def test_a_part_with_an_extended_file_name_is_a_file(client: TestClient, disposition: bytes, name: str) -> None:
    response = post(client, "/recognize/batch", part(b"files", disposition) + png() + b"\r\n", headers=NDJSON)
    assert response.status_code == 200, response.text
    first = json.loads(response.text.splitlines()[0])
    assert (first["id"], first["text"]) == (name, "77")


@pytest.mark.parametrize("disposition", [b"note=\"; filename*=UTF-8''a.png\"", b"filename*" + b"1" * 5000 + b"=a"])
def test_what_only_resembles_an_extended_file_name_is_none(client: TestClient, disposition: bytes) -> None:
    response = post(client, "/recognize", part(b"file", disposition) + png() + b"\r\n")
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")

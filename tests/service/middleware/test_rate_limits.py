"""Rate limits: wrong keys, batches above the limit, documents of many pages, and addresses that clients claim."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import SecretStr

from linewise.service import server
from linewise.service.app import create_app
from linewise.service.middleware.auth import WRONG_KEYS_PER_MINUTE
from linewise.service.settings import Settings

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"
KEYS = (SecretStr(FIRST), SecretStr(SECOND))


def status_and_code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def document(pages: int) -> bytes:
    sheets = [Image.new("L", (60, 40), 255 - page) for page in range(pages)]
    buffer = io.BytesIO()
    sheets[0].save(buffer, "TIFF", save_all=True, append_images=sheets[1:])
    return buffer.getvalue()


def test_wrong_keys_are_limited_for_each_address(make_client: Callable[..., TestClient], picture: bytes) -> None:
    client = make_client(api_keys=KEYS)

    def post(key: str) -> Any:
        return client.post("/recognize", content=picture, headers={"x-api-key": key})

    assert post(FIRST).status_code == 200
    for number in range(WRONG_KEYS_PER_MINUTE):
        assert status_and_code(post(f"guess-{number}")) == (401, "unauthorized")
    refused = post("guess")
    assert status_and_code(refused) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 120 and "keys" in refused.json()["detail"]
    assert post(SECOND).status_code == 429, "the answer would tell whether the guess is right"
    assert post(FIRST).status_code == 200, "a key used from this address before is not locked out"
    assert client.get("/metrics", headers={"x-api-key": "guess"}).status_code == 429
    assert client.get("/healthz/live").status_code == 200


def test_requests_without_a_key_are_no_guesses(make_client: Callable[..., TestClient], picture: bytes) -> None:
    client = make_client(api_keys=KEYS)
    for _ in range(WRONG_KEYS_PER_MINUTE + 1):
        assert client.post("/recognize", content=picture).status_code == 401
    assert client.post("/recognize", content=picture, headers={"x-api-key": FIRST}).status_code == 200


def test_a_batch_above_the_rate_limit_is_refused_as_too_large_and_costs_nothing(
    make_client: Callable[..., TestClient], picture: bytes
) -> None:
    client = make_client(rate_limit="3/hour")
    for _ in range(4):
        refused = client.post("/recognize/batch", files=[("files", picture)] * 4)
        assert status_and_code(refused) == (413, "too_many_files")
        assert "3 images per hour" in refused.json()["detail"] and "retry-after" not in refused.headers
    assert client.post("/recognize/batch", files=[("files", picture)] * 3).status_code == 200
    assert status_and_code(client.post("/recognize/batch", files=[("files", picture)])) == (429, "rate_limited")


def test_a_batch_that_waits_for_the_limit_costs_nothing(make_client: Callable[..., TestClient], picture: bytes) -> None:
    client = make_client(rate_limit="4/hour")
    assert client.post("/recognize", content=picture).status_code == 200
    for _ in range(5):
        refused = client.post("/recognize/batch", files=[("files", picture)] * 4)
        assert status_and_code(refused) == (429, "rate_limited")
    assert client.post("/recognize/batch", files=[("files", picture)] * 3).status_code == 200


@pytest.mark.parametrize("path", ["/recognize", "/recognize/batch"])
def test_a_document_costs_its_pages(make_client: Callable[..., TestClient], picture: bytes, path: str) -> None:
    client = make_client(rate_limit="10/hour")
    field = "file" if path == "/recognize" else "files"

    def post(pages: int) -> Any:
        return client.post(path, params={"mode": "page"}, files={field: document(pages)})

    assert post(4).status_code == 200
    assert post(5).status_code == 200
    assert client.post("/recognize", content=picture).status_code == 200
    assert status_and_code(client.post("/recognize", content=picture)) == (429, "rate_limited")


def test_a_document_above_the_limit_is_read_and_uses_up_the_rest(
    make_client: Callable[..., TestClient], picture: bytes
) -> None:
    client = make_client(rate_limit="5/hour")
    assert client.post("/recognize", params={"mode": "page"}, content=document(8)).status_code == 200
    assert client.post("/recognize", content=picture).status_code == 429


@pytest.mark.parametrize(("trusted", "statuses"), [("", [200, 429]), ("127.0.0.1", [200, 200])])
def test_a_claimed_address_counts_only_from_a_trusted_proxy(
    monkeypatch: pytest.MonkeyPatch,
    fake: Any,
    picture: bytes,
    serve: Callable[..., AbstractContextManager[int]],
    trusted: str,
    statuses: list[int],
) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    if trusted:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", trusted)
    settings = Settings(rate_limit="1/hour", threads=1)
    app = create_app(settings, fake)
    with serve(app, config=server.server_config(app, settings)) as port:
        url = f"http://127.0.0.1:{port}/recognize"
        assert [
            httpx2.post(url, content=picture, headers={"x-forwarded-for": f"192.0.2.{number}"}).status_code
            for number in (1, 2)
        ] == statuses

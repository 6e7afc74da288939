"""API keys, rate limits and CORS origins."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

from linewise.service.middleware.auth import KeyRing
from linewise.service.settings import Settings

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"
KEYS = (SecretStr(FIRST), SecretStr(SECOND))


def refused(response: Any, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


def test_without_keys_none_is_required(client: TestClient, picture: bytes) -> None:
    assert client.post("/recognize", content=picture).status_code == 200


@pytest.mark.parametrize("key", [FIRST, SECOND])
def test_each_key_is_accepted_in_either_header(
    make_client: Callable[..., TestClient], picture: bytes, key: str
) -> None:
    client = make_client(api_keys=KEYS)
    for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}):
        assert client.post("/recognize", content=picture, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": "wrong"},
        {"x-api-key": FIRST[:-1]},
        {"x-api-key": FIRST + " x"},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {FIRST}"},
        {"authorization": FIRST},
        {"x-api-key": "é".encode()},
    ],
)
def test_a_missing_or_invalid_key_is_refused_everywhere(
    make_client: Callable[..., TestClient], picture: bytes, headers: dict[str, Any]
) -> None:
    client = make_client(api_keys=KEYS)
    for response in (
        client.post("/recognize", content=picture, headers=headers),
        client.post("/v1/recognize", content=picture, headers=headers),
        client.post("/recognize/batch", files={"files": picture}, headers=headers),
        client.get("/v1/models", headers=headers),
        client.get("/metrics", headers=headers),
    ):
        refused(response, 401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_key(make_client: Callable[..., TestClient]) -> None:
    client = make_client(api_keys=KEYS)
    assert client.get("/healthz/live").status_code == client.get("/healthz/ready").status_code == 200


def test_a_key_file_is_read_again_when_it_changes(
    make_client: Callable[..., TestClient], picture: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# the first\n{FIRST}\n\n")
    client = make_client(api_keys_file=file)

    def status(key: str) -> int:
        return client.post("/recognize", content=picture, headers={"x-api-key": key}).status_code

    assert (status(FIRST), status(SECOND), status("# the first")) == (200, 401, 401)
    file.write_text(f"{SECOND}\n")
    assert (status(FIRST), status(SECOND)) == (401, 200)


def test_an_empty_key_file_accepts_no_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("")
    ring = KeyRing(file=file)
    assert ring.required and not ring.accepts("") and not ring.accepts(FIRST)


def test_a_briefly_missing_key_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(FIRST)
    ring = KeyRing(file=file)
    os.rename(file, tmp_path / "away")
    assert ring.accepts(FIRST)
    file.write_text(SECOND)
    assert ring.accepts(SECOND) and not ring.accepts(FIRST)


def test_keys_come_from_the_environment_and_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEWISE_API_KEYS", f"{FIRST}, {SECOND}")
    settings = Settings(host="0.0.0.0")
    assert [key.get_secret_value() for key in settings.api_keys] == [FIRST, SECOND]
    assert FIRST not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEYS", "short"),
        ("API_KEYS_FILE", "/nonexistent/keys"),
        ("RATE_LIMIT", "often"),
        ("RATE_LIMIT", "5/fortnight"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_invalid_values_prevent_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"LINEWISE_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_images_over_the_rate_limit_get_429(make_client: Callable[..., TestClient], picture: bytes) -> None:
    client = make_client(rate_limit="3/hour")
    codes = [client.post("/recognize", content=picture).status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    response = client.post("/recognize", content=picture)
    refused(response, 429, "rate_limited")
    assert 1 <= int(response.headers["retry-after"]) <= 3600
    assert "3 images per hour" in response.json()["detail"]
    assert client.get("/healthz/ready").status_code == 200


def test_each_image_of_a_batch_counts(make_client: Callable[..., TestClient], picture: bytes) -> None:
    client = make_client(rate_limit="4/hour")
    assert client.post("/recognize/batch", files=[("files", picture)] * 3).status_code == 200
    refused(client.post("/recognize/batch", files=[("files", picture)] * 3), 429, "rate_limited")


def test_each_key_has_its_own_rate_limit(make_client: Callable[..., TestClient], picture: bytes) -> None:
    client = make_client(rate_limit="1/hour", api_keys=KEYS)
    codes = [
        client.post("/recognize", content=picture, headers={"x-api-key": key}).status_code
        for key in (FIRST, SECOND, FIRST, SECOND)
    ]
    assert codes == [200, 200, 429, 429]


def test_invalid_keys_do_not_count_towards_any_rate_limit(
    make_client: Callable[..., TestClient], picture: bytes
) -> None:
    client = make_client(rate_limit="1/hour", api_keys=KEYS)
    for _ in range(3):
        refused(client.post("/recognize", content=picture, headers={"x-api-key": "guess"}), 401, "unauthorized")
    assert client.post("/recognize", content=picture, headers={"x-api-key": FIRST}).status_code == 200


def test_other_origins_are_refused_unless_configured(make_client: Callable[..., TestClient]) -> None:
    origin = {"origin": "https://example.org"}
    assert "access-control-allow-origin" not in make_client().get("/healthz/live", headers=origin).headers
    allowed = make_client(cors_origins=("https://example.org",))
    assert allowed.get("/healthz/live", headers=origin).headers["access-control-allow-origin"] == origin["origin"]
    stranger = {"origin": "https://example.net"}
    assert "access-control-allow-origin" not in allowed.get("/healthz/live", headers=stranger).headers
    preflight = origin | {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    assert allowed.options("/recognize", headers=preflight).status_code == 200

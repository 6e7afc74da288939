"""The application: health probes, errors, request ids, documentation."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from linewise.service.app import create_app
from linewise.service.settings import Settings


@pytest.mark.parametrize("root", ["/healthz", "/v2/health"])
def test_health_follows_the_model(make_client: Callable[..., TestClient], fake: Any, root: str) -> None:
    fake.warm_gate.clear()
    client = make_client()
    assert client.get(f"{root}/live").status_code == 200
    assert (client.get(f"{root}/ready").status_code, client.get(f"{root}/ready").json()) == (
        503,
        {"status": "starting"},
    )
    fake.warm_gate.set()
    while client.get(f"{root}/ready").status_code != 200:
        pass
    assert client.get(f"{root}/ready").json() == {"status": "ready"}


def test_requests_before_the_model_is_warm_get_503_with_retry_after(
    make_client: Callable[..., TestClient], fake: Any, picture: bytes
) -> None:
    fake.warm_gate.clear()
    response = make_client().post("/recognize", content=picture)
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert int(response.headers["retry-after"]) >= 1


def test_a_model_that_cannot_be_loaded_fails_liveness(caplog: pytest.LogCaptureFixture) -> None:
    class BrokenReader:
        model_id = revision = device = ""

        def warm_up(self) -> None:
            raise RuntimeError("no such device")

        def read(self, images: object, decodings: object = None) -> Any:
            raise AssertionError

        def decoding(self, *options: object) -> Any:
            raise AssertionError

        def width_bucket(self, height: int, width: int) -> int:
            raise AssertionError

    with TestClient(create_app(Settings(), BrokenReader())) as client:
        while client.get("/healthz/live").status_code == 200:
            pass
        assert client.get("/healthz/ready").json() == {"status": "failed"}
        assert client.post("/recognize", content=b"x").json()["code"] == "not_ready"
    assert "cannot be loaded" in caplog.text


def test_the_model_is_named_with_its_revision(client: TestClient) -> None:
    assert client.get("/v1/models").json() == {"models": [{"id": "fake", "revision": "sha256:00", "device": "cpu"}]}


@pytest.mark.parametrize(("device", "allowed"), [("cpu", {"model-0", "model-1"}), ("cuda:0", {"model-0"})])
def test_the_model_runs_in_its_own_threads(
    make_client: Any, fake: Any, picture: bytes, device: str, allowed: set[str]
) -> None:
    fake.device = device
    client = make_client(threads=2)
    workers = [threading.Thread(target=lambda: client.post("/recognize", content=picture)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert fake.threads and fake.threads <= allowed
    assert len(fake.seen) == 8


def test_the_event_loop_answers_while_the_model_works(client: TestClient, fake: Any, picture: bytes) -> None:
    fake.gate.clear()
    worker = threading.Thread(target=lambda: client.post("/recognize", content=picture))
    worker.start()
    while not fake.threads:
        pass
    assert client.get("/healthz/live").status_code == 200
    fake.gate.set()
    worker.join()


def test_a_bug_answers_500_with_the_request_id_and_nothing_else(
    client: TestClient, fake: Any, picture: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    fake.failure = RuntimeError("secret path /srv/weights")
    response = client.post("/recognize", content=picture, headers={"x-request-id": "mine-1"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == "mine-1"
    assert "secret" not in response.text
    assert (response.json()["code"], response.json()["request_id"]) == ("internal", "mine-1")
    assert "mine-1" in caplog.text and "secret path" in caplog.text
    fake.failure = None
    assert client.post("/recognize", content=picture).status_code == 200


@pytest.mark.parametrize("request_id", ["abc", "A-b_c.9", "x" * 128])
def test_a_well_formed_request_id_is_echoed(client: TestClient, request_id: str) -> None:
    assert client.get("/healthz/live", headers={"x-request-id": request_id}).headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129, "a\tb", "<script>", "é"])
def test_a_malformed_request_id_is_replaced(client: TestClient, request_id: str) -> None:
    echoed = client.get("/healthz/live", headers={b"x-request-id": request_id.encode()}).headers["x-request-id"]
    assert echoed != request_id and len(echoed) == 32


HEAD_ROUTES = ("/", "/web/page.css", "/healthz/live", "/healthz/ready", "/v2/health/live", "/v2/health/ready")


@pytest.mark.parametrize("path", HEAD_ROUTES)
def test_head_answers_as_get_without_a_body(client: TestClient, path: str) -> None:
    get, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "content-security-policy"):
        assert head.headers.get(name) == get.headers.get(name)


def test_head_on_the_readiness_route_follows_the_model(make_client: Callable[..., TestClient], fake: Any) -> None:
    fake.warm_gate.clear()
    client = make_client()
    assert (client.head("/healthz/ready").status_code, client.head("/healthz/live").status_code) == (503, 200)


def test_unknown_routes_and_methods_are_problems_too(client: TestClient) -> None:
    missing = client.get("/nothing/here")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = client.get("/recognize")
    assert (wrong.status_code, wrong.json()["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert missing.headers["content-type"] == wrong.headers["content-type"] == "application/problem+json"


def test_the_documentation_lists_the_body_types_and_the_problems(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/recognize"]["post"]
    assert set(operation["requestBody"]["content"]) == {
        "multipart/form-data",
        "image/*",
        "application/octet-stream",
        "application/pdf",
        "application/json",
    }
    assert {"200", "400", "413", "415", "422", "503"} <= set(operation["responses"])
    assert "application/problem+json" in operation["responses"]["422"]["content"]


def test_the_documentation_needs_no_other_host(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert client.get(name).status_code == 200

"""The Open Inference Protocol: binary and JSON tensors in and out, on the road of `/recognize`."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from tests.service.conftest import FakeReader, encode

Pixels = NDArray[np.uint8]

INFER = "/v2/models/linewise/infer"
HEADER = "Inference-Header-Content-Length"
ALL = ("boxes", "txts", "scores")


def page() -> Pixels:
    """A white page with two dark stripes, which the fake detector takes for lines."""
    pixels = np.full((60, 40, 3), 255, np.uint8)
    pixels[10:20], pixels[30:45] = 50, 90
    return pixels


def tensor(pixels: Pixels, **changes: Any) -> dict[str, Any]:
    """The input of an image whose bytes follow the JSON document."""
    parameters = {"binary_data_size": pixels.size}
    return {"name": "image", "shape": [1, *pixels.shape], "datatype": "UINT8", "parameters": parameters} | changes


def post(client: TestClient, document: object, *raw: bytes, path: str = INFER, **headers: str) -> Any:
    """Send JSON and the bytes of tensors after it."""
    head = json.dumps(document).encode()
    return client.post(path, content=b"".join((head, *raw)), headers={HEADER: str(len(head)), **headers})


def infer(client: TestClient, pixels: Pixels, **members: Any) -> Any:
    answer = post(client, {"inputs": [tensor(pixels)], **members}, pixels.tobytes())
    assert answer.status_code == 200, answer.text
    return answer


def outputs(answer: Any) -> dict[str, NDArray[Any]]:
    """The tensors of an answer, as a client of the protocol decodes them."""
    end = int(answer.headers.get(HEADER, len(answer.content)))
    document, rest = json.loads(answer.content[:end]), answer.content[end:]
    found = {}
    for one in document["outputs"]:
        values: Any = one.get("data")
        if values is None:
            size = one["parameters"]["binary_data_size"]
            raw, rest = rest[:size], rest[size:]
            values = np.frombuffer(raw, "<f4") if one["datatype"] == "FP32" else list(texts(raw))
        found[one["name"]] = np.asarray(values, np.float32 if one["datatype"] == "FP32" else object)
        found[one["name"]] = found[one["name"]].reshape(one["shape"])
    assert not rest
    return found


def texts(raw: bytes) -> Any:
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        yield raw[4 : 4 + length].decode()
        raw = raw[4 + length :]


@pytest.mark.parametrize("binary", [False, True])
def test_a_page_is_answered_with_the_lines_of_recognize(client: TestClient, binary: bool) -> None:
    found = outputs(infer(client, page(), parameters={"binary_data_output": binary}))
    lines = client.post("/recognize?mode=page", content=encode(Image.fromarray(page()))).json()["lines"]
    assert tuple(found) == ALL
    assert found["txts"].tolist() == [line["text"] for line in lines] == ["50", "90"]
    assert found["boxes"].tolist() == [line["polygon"] for line in lines]
    np.testing.assert_allclose(found["scores"], [line["confidence"] for line in lines])


def test_an_answer_names_model_version_weights_and_request(client: TestClient) -> None:
    answer = infer(client, page(), id="page-7")
    document = answer.json()
    assert {name: document[name] for name in document if name != "outputs"} == {
        "model_name": "linewise", "model_version": "1", "id": "page-7", "parameters": {"revision": "sha256:00"},
    }  # fmt: skip
    assert answer.headers["content-type"] == "application/json"
    assert "inference;dur=" in answer.headers["server-timing"]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("number", [np.uint8, np.float64])
def test_the_image_may_be_json(client: TestClient, nested: bool, number: type[np.generic]) -> None:
    data = (page()[None] if nested else page().reshape(-1)).astype(number).tolist()
    document = {"inputs": [{"name": "image", "shape": [1, 60.0, 40, 3], "datatype": "UINT8", "data": data}]}
    answer = client.post(INFER, json=document)
    assert outputs(answer)["txts"].tolist() == ["50", "90"]


@pytest.mark.parametrize("data", [[["en"]], ["en"], None])
def test_a_language_is_accepted(client: TestClient, data: object) -> None:
    language: dict[str, Any] = {"name": "lang_type", "shape": [1, 1], "datatype": "BYTES"}
    raw = b"" if data else b"\x07\0\0\0english"
    language |= {"data": data} if data else {"parameters": {"binary_data_size": len(raw)}}
    answer = post(client, {"inputs": [language, tensor(page())]}, raw, page().tobytes())
    assert outputs(answer)["txts"].tolist() == ["50", "90"]


def test_outputs_are_selected_and_each_may_be_binary(client: TestClient) -> None:
    wanted = [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "txts"}]
    answer = infer(client, page(), outputs=wanted)
    found = outputs(answer)
    assert tuple(found) == ("scores", "txts")
    assert found["scores"].tolist() == [0.75, 0.75] and found["txts"].tolist() == ["50", "90"]
    assert answer.headers["content-type"] == "application/octet-stream"
    document = json.loads(answer.content[: int(answer.headers[HEADER])])
    assert [sorted(one) for one in document["outputs"]] == [
        ["datatype", "name", "parameters", "shape"], ["data", "datatype", "name", "shape"],
    ]  # fmt: skip
    assert tuple(outputs(infer(client, page(), outputs=[{"name": "txts"}] * 2))) == ("txts",)
    overridden = [{"name": "boxes", "parameters": {"binary_data": False}}]
    answer = infer(client, page(), outputs=overridden, parameters={"binary_data_output": True})
    assert HEADER not in answer.headers and outputs(answer)["boxes"].shape == (2, 4, 2)


@pytest.mark.parametrize("binary", [False, True])
def test_an_empty_page_has_no_lines(client: TestClient, binary: bool) -> None:
    blank = np.full((30, 40, 3), 255, np.uint8)
    found = outputs(infer(client, blank, parameters={"binary_data_output": binary}))
    assert [found[name].shape for name in ALL] == [(0, 4, 2), (0,), (0,)]


def test_the_parameters_are_the_options_of_recognize(client: TestClient, fake: FakeReader) -> None:
    found = outputs(infer(client, page(), parameters={"mode": "line"}))
    assert found["txts"].tolist() == [f"{page().mean():.0f}"]
    assert found["boxes"].tolist() == [[[0, 0], [40, 0], [40, 60], [0, 60]]]
    infer(client, page(), parameters={"charset": "0123456789", "alternatives": 2})
    assert fake.asked[-1] == (2, "0123456789", "", None)
    assert outputs(infer(client, page(), parameters={"min_confidence": 0.9}))["txts"].size == 0
    answer = post(client, {"inputs": [tensor(page())], "parameters": {"modus": "line"}}, page().tobytes())
    assert (answer.status_code, answer.json()) == (422, {"error": "modus: Extra inputs are not permitted"})


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_boxes_are_pixels_of_the_image_as_it_was_sent(client: TestClient, turn: int) -> None:
    upright = np.full((60, 40, 3), 255, np.uint8)
    upright[10:20] = 50
    sent = np.ascontiguousarray(np.rot90(upright, turn // 90))  # anticlockwise, so that `turn` makes it upright
    (box,) = outputs(infer(client, sent, parameters={"orientation": str(turn)}))["boxes"]
    rows, columns = np.nonzero(sent[:, :, 0] == 50)
    assert box.min(axis=0).tolist() == [columns.min(), rows.min()]
    assert box.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]


def test_model_and_server_describe_themselves(client: TestClient) -> None:
    described = client.get("/v2/models/linewise").json()
    assert described == client.get("/v2/models/linewise/versions/1").json()
    assert (described["name"], described["versions"]) == ("linewise", ["1"])
    assert [(one["name"], one["datatype"], one["shape"]) for one in described["outputs"]] == [
        ("boxes", "FP32", [-1, 4, 2]), ("txts", "BYTES", [-1]), ("scores", "FP32", [-1]),
    ]  # fmt: skip
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/models/linewise/ready", "/v2/models/linewise/versions/1/ready"):
        assert client.get(path).status_code == client.head(path).status_code == 200


def test_a_version_has_the_same_route(client: TestClient) -> None:
    body = {"inputs": [tensor(page())]}
    answer = post(client, body, page().tobytes(), path="/v2/models/linewise/versions/1/infer")
    assert outputs(answer)["txts"].tolist() == ["50", "90"]
    for path in ("/v2/models/linewise/versions/2/infer", "/v2/models/other/infer"):
        answer = post(client, body, page().tobytes(), path=path)
        assert answer.status_code == 404 and list(answer.json()) == ["error"]


def test_errors_are_the_protocols_with_the_status_and_headers_of_recognize(
    make_client: Callable[..., TestClient],
) -> None:
    client = make_client(api_keys="a-key-of-24-characters!!", rate_limit="2/minute", max_body_bytes=20_000)
    body, pixels = {"inputs": [tensor(page())]}, page().tobytes()
    answer = post(client, body, pixels)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert list(answer.json()) == ["error"] and "API key" in answer.json()["error"]
    key = {"X-API-Key": "a-key-of-24-characters!!"}
    assert client.get("/v2/models/linewise").status_code == 401
    assert client.get("/v2/models/linewise", headers=key).status_code == 200
    assert post(client, body, pixels, **key).status_code == 200
    assert post(client, body, pixels, **key, **{"X-Request-Timeout": "0"}).status_code == 422
    answer = post(client, body, pixels, **key)
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0 and list(answer.json()) == ["error"]
    assert post(client, body, b"x" * 20_001).status_code == 413
    assert client.put(INFER).status_code == 405 and list(client.put(INFER).json()) == ["error"]
    metrics = client.get("/metrics", headers=key).text
    assert f'linewise_http_requests_total{{method="POST",route="{INFER}",status="200"}} 1.0' in metrics
    assert 'linewise_rejected_total{reason="rate_limited"} 1.0' in metrics


def test_work_beyond_its_deadline_is_refused(client: TestClient, fake: FakeReader) -> None:
    fake.gate.clear()
    answer = post(client, {"inputs": [tensor(page())]}, page().tobytes(), **{"X-Request-Timeout": "0.2"})
    assert answer.status_code == 504 and list(answer.json()) == ["error"]


def test_an_image_has_the_limits_of_recognize(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_pixels=2000)
    for pixels, problem in ((page(), "40 x 60 pixels; the limit is 2000"), (page()[:2], "40 x 2 pixels; each side")):
        answer = post(client, {"inputs": [tensor(pixels)]}, pixels.tobytes())
        assert answer.status_code == 422 and problem in answer.json()["error"]

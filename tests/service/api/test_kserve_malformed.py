"""Malformed inference requests get 400 with the protocol's error object, and nothing is allocated for them."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.service.api.test_kserve import HEADER, INFER, page, post, tensor

PIXELS = page().tobytes()
LANGUAGE = {"name": "lang_type", "shape": [1, 1], "datatype": "BYTES"}


def image(**changes: Any) -> dict[str, Any]:
    return {"inputs": [tensor(page(), **changes)]}


def in_json(data: object, **changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "shape": [1, 1, 2, 3], "datatype": "UINT8", "data": data} | changes]}


def language(size: object = 6, **changes: Any) -> dict[str, Any]:
    return {"inputs": [tensor(page()), LANGUAGE | {"parameters": {"binary_data_size": size}} | changes]}


MALFORMED: dict[str, tuple[object, bytes, str]] = {
    "not JSON": (b"{", b"", "not valid"),
    "another document": ([1], b"", "not valid"),
    "no inputs": ({}, b"", "inputs: Field required"),
    "an empty list of inputs": ({"inputs": []}, b"", "inputs: List should have at least 1"),
    "inputs without end": ({"inputs": [1] * 100_000}, b"", "inputs.0"),
    "too many inputs": ({"inputs": [LANGUAGE] * 100}, b"", "at most 8"),
    "no image": ({"inputs": [LANGUAGE | {"data": ["en"]}]}, b"", "'image' is missing"),
    "an unknown input": ({"inputs": [tensor(page(), name="pixels")]}, PIXELS, "'image'"),
    "an image twice": ({"inputs": [tensor(page())] * 2}, PIXELS * 2, "each once"),
    "another datatype": (image(datatype="FP32"), PIXELS, "must be UINT8"),
    "no datatype": (image(datatype=None), PIXELS, "datatype"),
    "two images": (image(shape=[2, 30, 40, 3]), PIXELS, "must be [1, height, width, 3]"),
    "grey": (image(shape=[1, 180, 40, 1]), PIXELS, "must be [1, height, width, 3]"),
    "three dimensions": (image(shape=[60, 40, 3]), PIXELS, "must be [1, height, width, 3]"),
    "no dimensions": (image(shape=[]), PIXELS, "must be [1, height, width, 3]"),
    "a side of 0": (image(shape=[1, 0, 40, 3], parameters={"binary_data_size": 0}), b"", "must be [1, height"),
    "a negative side": (image(shape=[1, -60, -40, 3]), PIXELS, "shape.1"),
    "a fractional side": (image(shape=[1, 60.5, 40, 3]), PIXELS, "shape.1"),
    "a side beyond integers": (image(shape=[1, 10**30, 40, 3]), PIXELS, "shape.1"),
    "too many dimensions": (image(shape=[1] * 10_000), PIXELS, "shape"),
    "another shape": (image(shape=[1, 60, 41, 3]), PIXELS, "has 7380 values, the data 7200"),
    "an enormous shape": (image(shape=[1, 2**31, 2**31, 3]), PIXELS, "the data 7200"),
    "too few bytes": (image(), PIXELS[:-1], "7200 bytes by their binary_data_size; 7199 bytes follow"),
    "too many bytes": (image(), PIXELS + b"x", "7201 bytes follow"),
    "an enormous size": (image(parameters={"binary_data_size": 2**62}), PIXELS, "binary_data_size"),
    "a negative size": (image(parameters={"binary_data_size": -1}), PIXELS, "binary_data_size"),
    "a size that is text": (image(parameters={"binary_data_size": "7200"}), PIXELS, "binary_data_size"),
    "neither data nor bytes": (image(parameters={}), b"", "either data or the parameter"),
    "data and bytes": (image(data=[0]), PIXELS, "either data or the parameter"),
    "too few values": (in_json([0] * 5), b"", "has 6 values, the data 5"),
    "no values": (in_json([]), b"", "the data 0"),
    "a value above 255": (in_json([0] * 5 + [256]), b"", "from 0 to 255"),
    "a negative value": (in_json([-1] * 6), b"", "from 0 to 255"),
    "a fraction": (in_json([0.5] * 6), b"", "from 0 to 255"),
    "texts": (in_json(["0"] * 6), b"", "from 0 to 255"),
    "one long text": (in_json(["0" * 10_000] * 6), b"", "from 0 to 255"),
    "nested otherwise": (in_json([[[[0, 0], [0, 0], [0, 0]]]]), b"", "nested as the shape"),
    "ragged": (in_json([[[[0, 0, 0], [0, 0]]]]), b"", "nested as the shape"),
    "half nested": (in_json([[0] * 6, 0]), b"", "nested as the shape"),
    "a length that runs over": (language(), PIXELS + b"\xff\xff\xff\xffen", "its length in 4 bytes"),
    "a length that ends early": (language(), PIXELS + b"\1\0\0\0en", "its length in 4 bytes"),
    "half a length": (language(2), PIXELS + b"en", "its length in 4 bytes"),
    "no UTF-8": (language(), PIXELS + b"\2\0\0\0\xff\xff", "not UTF-8"),
    "several languages": (language(12, shape=[2]), PIXELS + b"\2\0\0\0en" * 2, "one text"),
    "a language that is a number": ({"inputs": [tensor(page()), LANGUAGE | {"data": [1]}]}, PIXELS, "one text"),
    "a language of another type": (language(datatype="UINT8"), PIXELS + b"\2\0\0\0en", "one text of datatype BYTES"),
    "an unknown output": (image() | {"outputs": [{"name": "words"}]}, PIXELS, "outputs.0.name"),
    "a flag that is text": (image() | {"parameters": {"binary_data_output": "x"}}, PIXELS, "true or false"),
    "a long id": (image() | {"id": "x" * 257}, PIXELS, "id"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_gets_400_and_a_reason(client: TestClient, name: str) -> None:
    document, raw, reason = MALFORMED[name]
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = client.post(INFER, content=head + raw, headers={HEADER: str(len(head))})
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert reason in answer.json()["error"] and len(answer.json()["error"]) < 500


@pytest.mark.parametrize("length", ["-1", "1.5", "", "x", "0x10", "99999999", "9" * 5000, "١"])
def test_a_length_of_the_document_beyond_the_body_gets_400(client: TestClient, length: str) -> None:
    body = json.dumps(image()).encode() + PIXELS
    answer = client.post(INFER, content=body, headers={HEADER.encode(): length.encode()})
    assert answer.status_code == 400 and HEADER in answer.json()["error"]


def test_binary_tensors_without_the_header_get_400(client: TestClient) -> None:
    assert client.post(INFER, content=json.dumps(image()).encode() + PIXELS).status_code == 400
    answer = client.post(INFER, json=image())
    assert answer.status_code == 400 and HEADER in answer.json()["error"]


def test_nothing_is_allocated_from_a_length_that_was_not_checked(client: TestClient) -> None:
    gigabyte = 2**30
    requests = [
        (image(shape=[1, 2**15, 2**15, 3], parameters={"binary_data_size": 3 * gigabyte}), PIXELS),
        (image(shape=[1, 2**15, 2**15, 3]), PIXELS),
        (language(), PIXELS + gigabyte.to_bytes(4, "little") + b"en"),
        (in_json([0] * 6, shape=[1, 2**15, 2**15, 3]), b""),
    ]
    post(client, image(), PIXELS)  # what is loaded and cached at the first request
    tracemalloc.start()
    try:
        for document, raw in requests:
            assert post(client, document, raw).status_code == 400
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_a_bad_request_harms_no_later_one(client: TestClient) -> None:
    assert post(client, image(), b"").status_code == 400
    answer = post(client, image(), np.zeros((60, 40, 3), np.uint8).tobytes())
    assert answer.status_code == 200

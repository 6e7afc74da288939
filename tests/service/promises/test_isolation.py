"""Fault isolation: a failure in any stage and at any position of a batch affects one image only."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from linewise.model import Reader, Reading
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.recognition import preprocess
from linewise.model.runtime.onnx.session import OnnxNetwork
from linewise.service.app import create_app
from linewise.service.documents.assembly import page_from_line
from linewise.service.inference import pipeline
from linewise.service.settings import Settings

BATCH_ITEMS = 4  # tests/service/inference/test_batcher.py has the larger ones
POISON = 255  # number of the picture that fails
STAGES = {"decode": "undecodable", "preprocess": "internal", "forward": "internal", "result": "internal",
          "answer": "internal"}  # fmt: skip


def pixels(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Distinct noise for each number, which is also the first pixel; all of one size, so that they share a batch."""
    noise = np.random.default_rng(number).integers(0, 255, (32, 100), np.uint8)
    noise[0, 0] = number
    return noise


def encoded(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(number)).save(buffer, "PNG")
    return buffer.getvalue()


class GatedReader(Reader):
    """A reader with random weights that waits before each batch and records its size."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        config = ModelConfig(stem=8, channels=(8, 8, 12, 16), blocks=(1, 1, 1, 1), hidden=12, lstm_layers=1)
        super().__init__(CRNN(config).eval())
        self.gate = threading.Event()
        self.gate.set()
        self.sizes: list[int] = []

    def read(self, images: Sequence[Any], *arguments: Any, **options: Any) -> list[Reading]:
        self.sizes.append(len(images))
        assert self.gate.wait(30)
        return super().read(images, *arguments, **options)

    def warm_up(self) -> None:
        """Skip the warm-up."""


def poison(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a stage fail for the poisonous image and no other."""

    def is_poison(image: Any) -> bool:
        return bool(image[0, 0] == POISON)

    if stage == "preprocess":
        scale = preprocess.scale
        monkeypatch.setattr(preprocess, "scale", failing(scale, lambda config, image: is_poison(image)))
    elif stage == "forward":
        scaled = preprocess.scale(ModelConfig(), pixels(POISON))
        row = preprocess.normalise([scaled])[0]
        monkeypatch.setattr(
            OnnxNetwork,
            "logits",
            failing(
                OnnxNetwork.logits, lambda self, batches: any(np.array_equal(row, one) for b in batches for one in b)
            ),
        )
    elif stage == "result":
        monkeypatch.setattr(
            Reader,
            "_build_reading",
            failing(Reader._build_reading, lambda self, hypotheses, image, *_: is_poison(image)),
        )
    elif stage == "answer":
        failing_on_poison = failing(page_from_line, lambda image, *_: is_poison(image.pixels))
        monkeypatch.setattr(pipeline, "page_from_line", failing_on_poison)


def failing(function: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **options: Any) -> Any:
        if when(*arguments):
            raise ValueError("poison")
        return function(*arguments, **options)

    return wrapped


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def read_as_one_batch(client: TestClient, reader: GatedReader, pictures: list[bytes], readable: int) -> Any:
    """Results of images that wait together while the model is busy with another one."""
    results: list[dict[str, Any]] = []

    def ask() -> None:
        files = [("files", picture) for picture in pictures]
        results.extend(client.post("/recognize/batch", files=files).json().get("results", []))

    reader.sizes.clear()
    reader.gate.clear()
    occupying = threading.Thread(target=client.post, args=("/recognize",), kwargs={"content": encoded(0)})
    asking = threading.Thread(target=ask)
    occupying.start()
    until(lambda: len(reader.sizes) == 1)
    asking.start()
    until(lambda: bool(client.app.state.engine.load[1] == readable))  # type: ignore[attr-defined]
    reader.gate.set()
    occupying.join()
    asking.join()
    assert reader.sizes[1:2] == [readable] * (readable > 0), "they were one batch"
    return results


@pytest.mark.parametrize("stage", STAGES)
def test_a_picture_that_fails_in_any_stage_and_place_fails_alone(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)  # the network is tiny: threads would only wait for each other
    reader = GatedReader()
    expected = {encoded(number): reader.read([pixels(number)])[0].text for number in range(1, BATCH_ITEMS)}
    assert len(set(expected.values())) == len(expected), "texts identify their images"
    bad = encoded(POISON)[:-40] if stage == "decode" else encoded(POISON)
    poison(stage, monkeypatch)
    # A long target wait allows long batches beside the single image that occupies the model.
    app = create_app(Settings(threads=1, batch_items=BATCH_ITEMS, target_wait=60.0), reader)
    with TestClient(app, raise_server_exceptions=False) as client:
        until(lambda: bool(app.state.engine.ready))
        for size in range(1, BATCH_ITEMS + 1):
            for place in range(size):
                pictures = list(expected)[: size - 1]
                pictures.insert(place, bad)
                results = read_as_one_batch(client, reader, pictures, size - (stage == "decode"))
                answers = [one["error"]["code"] if "error" in one else one["text"] for one in results]
                assert answers == [STAGES[stage] if one is bad else expected[one] for one in pictures]
        until(lambda: bool(app.state.engine.load[:2] == (0, 0)))

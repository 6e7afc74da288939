"""Determinism of the service with the shipped weights over HTTP: a result depends on the image alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import httpx2
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.model.runtime.precision import supports_bfloat16
from tests.campaigns.harness import service

pytestmark = pytest.mark.slow

PICTURES = 32
TEXTS = ("7", "Total", "INVOICE 1042", "No. 7, 12.50 EUR", "The quick brown fox jumps over the lazy dog")

Answer = tuple[str, float, float]  # text, confidence, confidence_min
Service = tuple[httpx2.Client, list[bytes], list[Answer]]  # a client, the images, and their answers when sent alone


def drawn(number: int) -> bytes:
    """An image by its number: of any size, sharp or barely legible, on its side, in colour, or empty."""
    random = Random(number)
    text = " ".join(random.choices(TEXTS, k=random.choice((0, 1, 1, 1, 2, 5))))
    height = random.randint(8, 60)
    font = ImageFont.load_default(height)
    size = (int(font.getlength(text)) + random.randint(5, 60), int(height * random.uniform(1.2, 2.0)))
    image = Image.new(random.choice(("L", "RGB")), size, random.randint(120, 255))
    ImageDraw.Draw(image).text((random.randint(0, 20), 2), text, fill=random.randint(0, 110), font=font)
    image = image.filter(ImageFilter.GaussianBlur(random.choice((0.0, 0.0, 1.0, 3.0))))
    if random.random() < 0.2:
        image = image.rotate(90, expand=True)
    buffer = io.BytesIO()
    image.save(buffer, random.choice(("PNG", "JPEG", "BMP")))
    return buffer.getvalue()


def answers_of(client: httpx2.Client, pictures: list[bytes]) -> list[Answer]:
    """Answers to images that are sent in one request."""
    if len(pictures) == 1:
        results = [client.post("/recognize", content=pictures[0]).raise_for_status().json()]
    else:
        files = [("files", picture) for picture in pictures]
        results = client.post("/recognize/batch", files=files).raise_for_status().json()["results"]
    return [(one["text"], one["confidence"], one["confidence_min"]) for one in results]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def running(request: pytest.FixtureRequest) -> Iterator[Service]:
    if not DEFAULT_PATH.exists():
        pytest.skip("no weights in this tree")
    if request.param == "bfloat16" and not supports_bfloat16("cpu"):
        pytest.skip("this processor has no instructions for bfloat16")
    with (
        service(environment={"LINEWISE_PRECISION": request.param}) as (port, _),
        httpx2.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"X-Request-Timeout": "120"},  # no request may be rejected on a slow machine
            timeout=120,
            limits=httpx2.Limits(max_connections=None),
        ) as client,
    ):
        pictures = [drawn(number) for number in range(PICTURES)]
        yield client, pictures, [answers_of(client, [picture])[0] for picture in pictures]


requests = st.lists(st.lists(st.integers(0, PICTURES - 1), min_size=1, max_size=6), min_size=1, max_size=64)


# Without shrinking: each attempt sends hundreds of images, and smaller batches change results less often.
@settings(deadline=None, max_examples=12, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))
@example([[number % PICTURES] for number in range(64)])
@example([list(range(PICTURES)), list(range(PICTURES))[::-1]])
@given(requests)
def test_a_result_does_not_depend_on_batch_or_load(running: Service, requests: list[list[int]]) -> None:
    client, pictures, alone = running
    with ThreadPoolExecutor(len(requests)) as clients:
        answers = clients.map(lambda numbers: answers_of(client, [pictures[number] for number in numbers]), requests)
        for numbers, results in zip(requests, answers, strict=True):
            for number, (text, *confidences) in zip(numbers, results, strict=True):
                assert text == alone[number][0], f"picture {number}"
                assert confidences == pytest.approx(alone[number][1:], abs=1e-4), f"picture {number}"


def test_the_pictures_are_a_fair_sample(running: Service) -> None:
    _, _, alone = running
    texts, confidences = {text for text, _, _ in alone}, [confidence for _, confidence, _ in alone]
    assert len(texts) > PICTURES / 2 and "" in texts
    assert min(confidences) < 0.5 and max(confidences) > 0.9, "confident and doubtful ones"

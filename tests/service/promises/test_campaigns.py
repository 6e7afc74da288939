"""Short forms of the campaigns in tests/campaigns that need no weights."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from linewise.service.api.kserve.requests import document_length, parse
from linewise.service.documents.image import ImageLimits, decode
from linewise.service.documents.multipage import decode_page, page_count
from linewise.service.errors import BadRequest, ImageError
from tests.campaigns import hostile, lost, overload, restart, soak
from tests.campaigns.documents import base_documents
from tests.campaigns.faulty import picture
from tests.campaigns.harness import TIMEOUT_S, free_port, start

PICTURES = hostile.base_pictures()
DOCUMENTS = base_documents()
LIMITS = ImageLimits(10**6, 32_768, 500.0)

# Without shrinking, because a smaller seed makes no simpler picture.
mutation = settings(deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))


def outcomes(report: dict[str, Any]) -> set[str]:
    return set(report["outcomes"])


@pytest.mark.slow
def test_no_request_is_lost_under_failures_and_the_log_holds_nothing_confidential(
    tmp_path: Path,
) -> None:
    report = lost.run(requests=260, kills=1, seed=1, clients=32, log=tmp_path / "log")
    assert not report["failed"], report
    assert {"200", "422", "500", "503", "left"} <= outcomes(report), "not all outcomes occurred"


@pytest.mark.slow
def test_a_rolling_restart_loses_no_request_and_resets_no_connection(tmp_path: Path) -> None:
    report = restart.run(restarts=2, clients=8, delay=restart.DRAIN_DELAY_S, log=tmp_path / "log")
    assert not report["failed"], report
    assert "200" in outcomes(report) and report["exits"] == [0, 0]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_requests(tmp_path: Path) -> None:
    port, pictures = free_port(), [picture(number, width=8000) for number in range(8)]  # 256 kB each when decoded
    process = start(port, restart.PROGRAM, tmp_path / "log", {"LINEWISE_THREADS": "1"})
    try:
        report = asyncio.run(soak.run(port, process.pid, pictures, minutes=0.2, clients=8))
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)
    assert {"200", "422", "given up"} <= outcomes(report) <= {"given up", *map(str, soak.EXPECTED_STATUSES)}, report
    # A request holds three pictures on average: a service that keeps them grows by 800 MB. The allocator returns free
    # memory late, which looks like growth in a short run.
    growth = report["mb_per_1000_requests"]
    assert isinstance(growth, float) and growth < 200, report


@pytest.mark.slow
def test_every_request_of_an_overload_is_answered_or_refused(tmp_path: Path) -> None:
    port, pictures = free_port(), [picture(number) for number in range(8)]
    process = start(port, restart.PROGRAM, tmp_path / "log", {"LINEWISE_THREADS": "1", "LINEWISE_MAX_IN_FLIGHT": "64"})
    try:
        peak, rounds = asyncio.run(overload.campaign(port, pictures, seconds=1.0))
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)
    figures = overload.summarize(peak, rounds)
    assert not figures["wrong"], figures
    assert [each["times"] for each in figures["rounds"]] == list(overload.TIMES)
    assert rounds[-1].report.statuses.keys() == {200, 503}, figures
    overload.plot(peak, rounds, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


@settings(mutation, max_examples=1000)
@given(st.sampled_from(PICTURES), st.integers(0))
def test_a_mutated_picture_is_decoded_or_refused_and_nothing_else(picture: tuple[str, bytes], seed: int) -> None:
    name, data = picture
    try:
        image = decode(hostile.mutated(Random(seed), name, data, PICTURES), LIMITS)
    except (ImageError, BadRequest):
        return
    assert image.pixels.size > 0 and image.pixels.dtype == "uint8"


@settings(mutation, max_examples=400)
@given(st.integers(0))
def test_a_mutated_inference_request_is_parsed_or_refused_and_nothing_else(seed: int) -> None:
    path, headers, body = hostile.inference(Random(seed))
    length = headers.rpartition(": ")[2]
    try:
        parsed = parse(body, document_length(length, len(body)))
        image = decode(parsed.upload.items[0].read_bytes(), LIMITS)
    except (ImageError, BadRequest):
        return
    assert path == hostile.INFERENCE_PATH and image.pixels.size > 0


@pytest.mark.slow
@settings(mutation, max_examples=60)
@given(st.sampled_from(DOCUMENTS), st.integers(0))
def test_each_page_of_a_mutated_document_is_decoded_or_refused_and_nothing_else(
    document: tuple[str, bytes], seed: int
) -> None:
    data = hostile.mutated(Random(seed), *document, PICTURES + DOCUMENTS)
    try:
        count = page_count(data, 5)
    except (ImageError, BadRequest):
        return
    for number in range(count):
        try:
            image = decode_page(data, number, LIMITS)
        except (ImageError, BadRequest):
            continue
        assert image.pixels.size > 0 and image.pixels.dtype == "uint8"


def test_the_documents_that_are_mutated_are_whole() -> None:
    for name, data in DOCUMENTS:
        pages = [decode_page(data, number, LIMITS) for number in range(page_count(data, 5))]
        assert len(pages) in (2, 3)
        assert all(page.format == name and page.pixels.min() < 100 < page.pixels.max() for page in pages)

"""Costly images are decoded in processes of their own, which end at a limit or when nobody waits any more."""

from __future__ import annotations

import asyncio
import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linewise.service.documents import multipage
from linewise.service.documents.decode_cost import CostlyImage
from linewise.service.documents.image import LINE_IMAGE_SIDE_PX, ImageLimits, decode
from linewise.service.documents.multipage import decode_page, open_line, open_page, page_count
from linewise.service.documents.workers import process
from linewise.service.documents.workers.pool import WatchedPool
from linewise.service.documents.workers.process import Stop, WorkerFailed, run_worker
from linewise.service.errors import Animated, ImageTooLarge, Undecodable
from tests.campaigns.harness import children
from tests.service.documents.test_decode_cost import jpeg, with_scans
from tests.service.documents.test_image import corner_marked, encode

LIMITS = ImageLimits(max_pixels=150_000_000, max_side=32_768, max_aspect=500)
SLEEPER = "import time\ntime.sleep(600)\n"


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count every image as costly."""
    monkeypatch.setattr(multipage, "QUICK_DECODE_S", 0.0)
    monkeypatch.setattr(multipage, "CHEAP_DECODE_S", 0.0)


@pytest.fixture
def sleeping(isolated: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Replace the program of the worker by one that does not end."""
    (tmp_path / "sleep.py").write_text(SLEEPER)
    monkeypatch.setattr(process, "_PROGRAM", tmp_path / "sleep.py")


@pytest.fixture
def count_workers() -> Callable[[], int]:
    before = set(children(os.getpid()))
    return lambda: len(set(children(os.getpid())) - before)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(60, 40), (900, 700)])
def test_a_worker_decodes_as_the_service_does(isolated: None, mode: str, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(corner_marked(mode).resize(size), "PNG", exif=exif)
    expected = decode(data, LIMITS)
    image = open_line(lambda: data, LIMITS, Stop())
    assert np.array_equal(image.pixels, expected.pixels)
    assert {**vars(image), "pixels": 0} == {**vars(expected), "pixels": 0}
    assert np.array_equal(decode_page(data, 0, LIMITS, Stop()).pixels, decode_page(data, 0, LIMITS).pixels)


def test_a_worker_reports_why_an_image_is_refused(isolated: None) -> None:
    data = encode(Image.effect_noise((64, 64), 90))
    with pytest.raises(Undecodable, match="corrupt or cut short"):
        open_line(lambda: data[:-500], LIMITS, Stop())
    with pytest.raises(ImageTooLarge, match="the limit is 9 in all"):
        open_line(lambda: data, ImageLimits(9, 32_768, 500), Stop())
    frames = io.BytesIO()
    Image.new("L", (9, 9)).save(frames, "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))])
    with pytest.raises(Animated):
        open_line(frames.getvalue, LIMITS, Stop())


@pytest.mark.parametrize(
    "image",
    [
        encode(Image.new("L", (2480, 3508), 255)),  # A4 at 300 dpi
        encode(Image.effect_noise((2000, 1600), 90), "WEBP", quality=80),
        jpeg((6000, 4000), "RGB"),
        jpeg((3000, 2000), "RGB", progressive=True),
    ],
    ids=["scan", "webp", "photo", "progressive"],
)
def test_ordinary_pictures_are_cheap(image: bytes) -> None:
    assert decode(image, LIMITS, max_seconds=multipage.CHEAP_DECODE_S).width > 1000


def test_lines_are_quick_and_pages_are_not() -> None:
    line = encode(Image.new("L", (2000, 100), 255))
    assert open_line(lambda: line, LIMITS, None).width == 2000
    with pytest.raises(CostlyImage):
        open_page(line, 0, LIMITS, None)


@pytest.mark.parametrize(
    "data",
    [
        with_scans(jpeg((3000, 3000), progressive=True), 100),
        encode(Image.new("RGBA", (5000, 4000)), compress_level=1),
        encode(Image.new("L", (5000, 4000)), "TIFF", compression="tiff_lzw"),
        encode(Image.new("L", (5000, 4000)), "BMP"),
    ],
    ids=["scans", "png", "tiff", "bmp"],
)
def test_a_costly_picture_is_told_by_its_header(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(CostlyImage):
        decode(data, LIMITS, max_seconds=multipage.CHEAP_DECODE_S)
    assert time.process_time() - started < 0.1


@pytest.mark.usefixtures("isolated")
def test_the_memory_of_a_worker_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipage, "MEMORY_LIMIT_BYTES", 2**28)
    monkeypatch.setattr(multipage, "DECODE_BYTES_PER_PIXEL", 0)
    small, large = (encode(Image.new("RGBA", (side, 9000)), compress_level=1) for side in (90, 8000))
    assert open_line(lambda: small, LIMITS, Stop()).height == 9000
    with pytest.raises(ImageTooLarge, match="too much memory"):
        open_line(lambda: large, LIMITS, Stop())


@pytest.mark.usefixtures("sleeping")
def test_stopping_ends_the_worker_and_every_later_one(count_workers: Callable[[], int]) -> None:
    outcomes: list[Exception] = []
    stop = Stop()

    def work() -> None:
        try:
            open_line(lambda: encode(corner_marked()), LIMITS, stop)
        except ImageTooLarge as error:
            outcomes.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not count_workers():
        time.sleep(0.005)
    stop.set()
    thread.join(30)
    assert len(outcomes) == 1 and count_workers() == 0
    with pytest.raises(WorkerFailed):
        run_worker(b"", 2**30, 10, stop, "count")
    with pytest.raises(Undecodable):
        page_count(b"%PDF-1.7", 5, stop)


def test_a_pool_sees_calls_that_are_late() -> None:
    now, gate = [0.0], threading.Event()
    pool = WatchedPool(1, "test", clock=lambda: now[0])

    async def run() -> None:
        calls: list[Any] = [asyncio.ensure_future(pool.run(gate.wait, allowance=3.0)) for _ in range(2)]
        while not pool.running:
            await asyncio.sleep(0.002)
        assert (pool.lateness, pool.running) == (0.0, 1)
        now[0] = 8.0
        assert pool.lateness == 5.0 and pool.stalled(4.0) and not pool.stalled(6.0)
        gate.set()
        await asyncio.gather(*calls)
        assert pool.running == 0 and pool.lateness == 0.0 and not pool.stalled(0.0)

    asyncio.run(run())
    pool.shutdown()


def test_the_side_of_a_line_image_holds_in_a_worker(isolated: None) -> None:
    data = encode(Image.new("L", (3000, 2000), 255))
    assert min(open_line(lambda: data, LIMITS, Stop()).pixels.shape) < 2 * LINE_IMAGE_SIDE_PX

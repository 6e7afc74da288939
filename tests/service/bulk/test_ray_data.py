"""Bulk reading on a real Ray: the rows of the one process, and a killed run that goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.service.bulk.writer import TOGETHER
from tests.service.conftest import encode
from tests.service.test_ray_serving import descendants

pytest.importorskip("ray", reason="the extra ray is not installed")

HANG = 300  # seconds: on a busy machine everything about Ray takes long


def command(place: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, its Ray in a small store; what it says goes to the file ``said``."""
    environment = os.environ | {
        "HOME": str(place),  # Ray leaves its token there
        "OMP_NUM_THREADS": "1",
        "RAY_ADDRESS": "local",
        "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "100000000",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Ray's own 15 starves them beside anything else
    }
    with (place / "said").open("ab") as said:
        program = [sys.executable, "-m", "linewise", "read", *arguments]
        return subprocess.Popen(program, env=environment, stdout=said, stderr=said)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def wait_until_gone(processes: dict[int, str]) -> None:
    deadline = time.monotonic() + HANG
    while left := [name for pid, name in processes.items() if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason="no weights in this tree")
def test_a_killed_run_goes_on_and_ends_with_the_rows_of_one_process(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    place = tmp_path / "lines"
    place.mkdir()
    held = []
    for number in range(12 * TOGETHER):
        picture = Image.new("L", (40 + 7 * (number % 40), 24), 250)
        ImageDraw.Draw(picture).text((4, 4), f"{number}", fill=10, font_size=16)
        picture.save(place / f"{number:04}.png")
        if number < 80:
            held.append(encode(picture))
    (place / "0005.png").write_bytes(b"no picture")
    table = tmp_path / "held.parquet"
    names = [f"held {number}" for number in range(82)]
    parquet.write_table(arrow.table({"id": names, "image": [*held, None, b"no picture"]}), table)
    sources = [str(place), str(table)]
    said = tmp_path / "said"

    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert command(tmp_path, *sources, "--output", str(whole)).wait(HANG) == 0, said.read_text()
    wanted = written(whole)
    assert [row["id"] for row in wanted] == [*(str(path) for path in sorted(place.iterdir())), *names]
    assert [row["id"] for row in wanted if row["error"]] == [str(place / "0005.png"), "held 80", "held 81"]

    on_ray = [*sources, "--engine", "ray", "--output", str(out)]
    process = command(tmp_path, *on_ray)
    deadline = time.monotonic() + HANG
    while not (out.is_file() and out.stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline, said.read_text()
        time.sleep(0.01)
    below = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait(HANG)
    known = out.read_bytes().count(b"\n")
    assert 0 < known < len(wanted)
    wait_until_gone(below)  # Ray ends by itself when the command is gone

    assert command(tmp_path, *on_ray).wait(HANG) == 0, said.read_text()
    assert written(out) == wanted
    assert f"{len(wanted) - known} rows added" in said.read_text()

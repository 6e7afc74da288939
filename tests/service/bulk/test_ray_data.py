"""Bulk reading on a real Ray: the same rows as one process, also after a killed run."""

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
from linewise.service.bulk.writer import BATCH_SIZE_IMAGES
from tests.service.conftest import encode
from tests.service.deploy.test_ray_serving import descendants

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.slow

TIMEOUT_S = 300  # Ray is slow on a busy machine


def command(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start ``linewise read`` with a small object store; its output goes to the file ``log`` in the folder."""
    environment = os.environ | {
        "HOME": str(folder),  # where Ray writes its token
        "OMP_NUM_THREADS": "1",
        "RAY_ADDRESS": "local",
        "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "100000000",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Agents report the end of their killed node to its dead head, by default for 60 s, before they end themselves.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
        "RAY_worker_niceness": "0",  # the default of 15 starves workers on a busy machine
    }
    with (folder / "log").open("ab") as log:
        program = [sys.executable, "-m", "linewise", "read", *arguments]
        return subprocess.Popen(program, env=environment, stdout=log, stderr=log)


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def wait_until_ended(processes: dict[int, str]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while running := [name for pid, name in processes.items() if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, running
        time.sleep(0.1)


def draw_inputs(folder: Path, table: Path) -> tuple[list[str], list[str]]:
    """Draw two tasks of image files and a table; returns the identifiers of all images and those of unreadable ones."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder.mkdir()
    contents: list[bytes | None] = []
    for number in range(6 * BATCH_SIZE_IMAGES):
        picture = Image.new("L", (40 + 7 * (number % 40), 24), 250)
        ImageDraw.Draw(picture).text((4, 4), f"{number}", fill=10, font_size=16)
        picture.save(folder / f"{number:04}.png")
        if number < 80:
            contents.append(encode(picture))
    (folder / "0005.png").write_bytes(b"no picture")
    names = [f"held {number}" for number in range(82)]
    parquet.write_table(arrow.table({"id": names, "image": [*contents, None, b"no picture"]}), table)
    files = [str(path) for path in sorted(folder.iterdir())]
    return [*files, *names], [str(folder / "0005.png"), "held 80", "held 81"]


@pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason="no weights in this tree")
def test_a_killed_run_goes_on_and_ends_with_the_rows_of_one_process(tmp_path: Path) -> None:
    folder, table, log = tmp_path / "lines", tmp_path / "held.parquet", tmp_path / "log"
    ids, unreadable = draw_inputs(folder, table)
    expected_path, out = tmp_path / "expected.jsonl", tmp_path / "out.jsonl"
    sources = [str(folder), str(table)]
    assert command(tmp_path, *sources, "--output", str(expected_path)).wait(TIMEOUT_S) == 0, log.read_text()
    expected = rows_in(expected_path)
    assert [row["id"] for row in expected] == ids
    assert [row["id"] for row in expected if row["error"]] == unreadable

    on_ray = [*sources, "--engine", "ray", "--output", str(out)]
    process = command(tmp_path, *on_ray)
    deadline = time.monotonic() + TIMEOUT_S
    while not (out.is_file() and out.stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    killed = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait(TIMEOUT_S)
    known = out.read_bytes().count(b"\n")
    assert 0 < known < len(expected)

    assert command(tmp_path, *on_ray).wait(TIMEOUT_S) == 0, log.read_text()
    assert rows_in(out) == expected
    assert f"{len(expected) - known} rows added" in log.read_text()
    wait_until_ended(killed)  # Ray ends by itself when its driver is gone

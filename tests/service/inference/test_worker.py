"""The recogniser in a worker process: results, errors, exit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
import torch
from PIL import Image

from linewise import model
from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.service.inference.loading import ModelSpec
from linewise.service.inference.queue import Pixels
from linewise.service.inference.results import ModelLost
from linewise.service.inference.worker import CannotStart, ModelProcess
from tests.campaigns.harness import ROOT, TIMEOUT_S, children

pytestmark = pytest.mark.skipif(not DEFAULT_PATH.exists(), reason="no weights in this tree")

SPEC = ModelSpec(device="cpu")


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Compute in one thread both here and in the worker: the last bits of a sum depend on how it is split.

    The worker inherits `OMP_NUM_THREADS`, which other tests set for services of theirs; the torch of this process may
    be loaded already and no longer reads it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def process() -> Iterator[ModelProcess]:
    with ModelProcess(SPEC, 3) as started:
        started.load()
        yield started


@pytest.fixture(scope="module")
def reader() -> model.Reader:
    return model.load(device="cpu")


def pictures() -> list[Pixels]:
    opened = (Image.open(ROOT / "tests" / "data" / name).convert("RGB") for name in ("receipt.png", "sign.jpg"))
    receipt, sign = map(np.asarray, opened)
    return [receipt, sign, np.ascontiguousarray(np.rot90(receipt)), receipt[:, :, 0].copy()]


def running(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_reads_what_the_recogniser_itself_reads(process: ModelProcess, reader: model.Reader) -> None:
    assert process.read(pictures()) == reader.read(pictures())
    assert (process.model_id, process.revision, process.device) == (reader.model_id, reader.revision, "cpu")
    assert process.read([]) == []


def test_it_decodes_as_is_asked(process: ModelProcess, reader: model.Reader) -> None:
    wanted = (2, None, "€", ("TOTAL", "EUR", "12.50"))
    there, here = process.decoding(*wanted), reader.decoding(*wanted)
    receipt = pictures()[0]
    assert process.read([receipt] * 3, [there, None, there]) == reader.read([receipt] * 3, [here, None, here])
    assert process.decoding(0, None, "", None) is None
    with pytest.raises(ValueError, match="cannot write: 中"):
        process.decoding(0, "中", "", None)


def test_pages_are_found_and_put_in_order_as_by_the_recogniser_itself(
    process: ModelProcess, reader: model.Reader
) -> None:
    receipt = pictures()[0]
    page = np.full((400, 600, 3), 235, np.uint8)
    for y, x in ((40, 30), (120, 300), (200, 30), (300, 200)):
        page[y : y + receipt.shape[0], x : x + receipt.shape[1]] = receipt
    itself = model.load_page_reader(reader=reader)
    found = process.pages.find(page)
    assert len(found) >= 4
    steps = process.pages.steps(page, found)
    try:
        asked = next(steps)
        while True:
            asked = steps.send(process.read(asked))
    except StopIteration as end:
        read: model.PageReading = end.value
    assert read.text == itself.read(page).text
    assert read.text.count("12.50") == 4


def test_widths_are_those_of_the_recogniser(process: ModelProcess, reader: model.Reader) -> None:
    for size in ((32, 100), (100, 32), (10, 5000), (1, 1), (700, 900)):
        assert process.width_bucket(*size) == reader.width_bucket(*size)


def test_an_error_over_there_is_one_here_and_the_next_call_is_answered(process: ModelProcess) -> None:
    with pytest.raises(ValueError, match="must be"):
        process.read([np.zeros((0, 5), np.uint8)])
    assert process.read(pictures()[:1])[0].text


def test_more_callers_than_pipes_wait_for_one(process: ModelProcess) -> None:
    receipt = pictures()[0]
    answers: Queue[str] = Queue()
    callers = [threading.Thread(target=lambda: answers.put(process.read([receipt])[0].text)) for _ in range(9)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(TIMEOUT_S)
    assert {answers.get_nowait() for _ in callers} == {process.read([receipt])[0].text}


def test_weights_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    process = ModelProcess(ModelSpec(weights=tmp_path / "none.safetensors"), 2)
    with process, pytest.raises(CannotStart, match=r"cannot open the checkpoint .*none\.safetensors"):
        process.load()


def test_an_end_while_it_loads_is_told_with_its_likely_cause() -> None:
    with ModelProcess(SPEC, 2) as process:
        os.kill(process.pid, signal.SIGKILL)  # as the kernel does when a container exceeds its memory
        with pytest.raises(CannotStart, match=r"cannot load the model: .* exit code -9, .* exceeds the memory limit"):
            process.load()


def test_where_memory_runs_out_it_is_ended_before_the_service(process: ModelProcess) -> None:
    own, worker = (int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in ("self", process.pid))
    assert worker > own


def test_its_end_is_noticed_at_once_and_by_who_calls() -> None:
    heard: Queue[BaseException] = Queue()
    with ModelProcess(SPEC, 2) as process:
        process.load()
        process.on_lost(heard.put)
        os.kill(process.pid, signal.SIGTERM)  # as a service manager sends it to all of a service's processes
        assert process.read(pictures()[:1])[0].text
        os.kill(process.pid, signal.SIGKILL)
        assert "exit code -9" in str(heard.get(timeout=TIMEOUT_S))
        for _ in range(3):
            with pytest.raises(ModelLost):
                process.read(pictures()[:1])
    assert heard.empty()


def test_told_to_end_it_ends_and_nobody_is_alarmed() -> None:
    heard: Queue[BaseException] = Queue()
    process = ModelProcess(SPEC, 2)
    process.load()
    process.on_lost(heard.put)
    process.close()
    assert not running(process.pid)
    with pytest.raises(ModelLost):
        process.read(pictures()[:1])
    assert heard.empty()


def test_a_process_that_does_not_listen_any_more_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linewise.service.inference.worker.EXIT_TIMEOUT_S", 0.2)
    process = ModelProcess(SPEC, 1)
    process.load()
    os.kill(process.pid, signal.SIGSTOP)
    process.close()
    assert not running(process.pid)


def test_it_does_not_outlive_its_parent() -> None:
    program = (
        "import os, signal; from linewise.service.inference.worker import ModelProcess\n"
        "from linewise.service.inference.loading import ModelSpec\n"
        "process = ModelProcess(ModelSpec(device='cpu'), 2); process.load(); print(process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, cwd=ROOT, check=False, timeout=TIMEOUT_S
    )
    assert result.returncode == -signal.SIGKILL
    until_gone(int(result.stdout))


def test_the_service_holds_no_network_and_ends_when_its_model_does(tmp_path: Path) -> None:
    from tests.campaigns.harness import free_port, start

    process = start(free_port(), environment={"LINEWISE_THREADS": "1"}, log=tmp_path / "log")
    try:
        (child,) = children(process.pid)
        ours, its = (Path(f"/proc/{pid}/maps").read_text() for pid in (process.pid, child))
        assert "libtorch" not in ours + its and "onnxruntime" not in ours
        assert "onnxruntime" in its
        os.kill(child, signal.SIGKILL)
        assert process.wait(TIMEOUT_S) == 1
    finally:
        process.kill()
        process.wait()
    assert "the model is lost" in (tmp_path / "log").read_text()

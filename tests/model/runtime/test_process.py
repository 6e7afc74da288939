"""Readers belong to the process that loaded them."""

from __future__ import annotations

import copy
import os
import pickle
import select
import signal
import sys
from collections.abc import Callable

import numpy as np
import pytest

from linewise.model import PageReader, Reader
from linewise.model.network.config import DetectorConfig
from linewise.model.network.detector import Detector
from tests.model.conftest import row_of

TINY_DETECTOR = DetectorConfig(stem=4, channels=(4, 4, 4, 4), blocks=(1, 1, 1, 1), neck=4)


def error_in_fork(call: Callable[[], object]) -> str:
    """Message of the error that a call raises in a forked process; "" if it raises none or does not end."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            call()
        except BaseException as error:
            os.write(sender, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(sender)
    try:
        ready, _, _ = select.select([receiver], [], [], 30)
        return os.read(receiver, 4096).decode() if ready else ""
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(receiver)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
def test_a_forked_process_is_told_to_load_its_own_reader(bar_reader: Reader) -> None:
    page_reader = PageReader(Detector(TINY_DETECTOR), bar_reader)
    line, page = row_of(3), np.full((64, 96, 3), 255, np.uint8)
    assert bar_reader.read([line])[0].text
    page_reader.read(page)
    calls: list[Callable[[], object]] = [
        lambda: bar_reader.read([line]),
        lambda: bar_reader.logits([line]),
        lambda: bar_reader.probabilities([line], ["|"]),
        lambda: bar_reader.posteriors(line),
        bar_reader.warm_up,
        lambda: page_reader.read(page),
        lambda: page_reader.detect(page[:, :, 0]),
    ]
    for call in calls:
        message = error_in_fork(call)
        assert message.startswith("RuntimeError: a ") and "Reader cannot be used in a forked process" in message
        assert "spawn" in message and "\n" not in message


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_readers_are_neither_pickled_nor_copied(bar_reader: Reader, duplicate: Callable[[object], object]) -> None:
    for reader in (bar_reader, PageReader(Detector(TINY_DETECTOR), bar_reader)):
        with pytest.raises(TypeError, match="Reader cannot be pickled or copied: load one in each process"):
            duplicate(reader)

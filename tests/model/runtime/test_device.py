"""The choice of a device, with and without a driver and torch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from linewise.model.runtime import device as devices
from linewise.model.runtime.device import Device, choose_device


@pytest.mark.parametrize(("driver", "installed", "gpu", "expected"), [
    (True, True, True, "cuda"), (True, True, False, "cpu"), (True, False, True, "cpu"), (False, True, True, "cpu"),
])  # fmt: skip
def test_the_gpu_is_the_default_where_torch_finds_one(
    monkeypatch: pytest.MonkeyPatch, driver: bool, installed: bool, gpu: bool, expected: str
) -> None:
    monkeypatch.setattr(devices, "_driver_is_present", lambda: driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    if not installed:
        monkeypatch.setitem(sys.modules, "torch", None)
    assert choose_device() == expected


@pytest.mark.parametrize(("name", "present"), [("nvidia0", True), ("nvidiactl", True), ("dxg", True), ("null", False)])
def test_a_driver_is_known_by_its_device_file(tmp_path: Path, name: str, present: bool) -> None:
    (tmp_path / name).touch()
    assert devices._driver_is_present(tmp_path) is present
    assert devices._driver_is_present(tmp_path / "none")  # not Linux: ask torch


def test_a_device_has_its_name_and_kind_and_torch_takes_it() -> None:
    for name in ("cpu", "cpu:0", "cuda", "cuda:1", torch.device("cuda:1")):
        device = choose_device(name)
        assert device == str(name) and device.type == str(name).split(":")[0]
        assert torch.device(device) == torch.device(name)
    assert torch.zeros(1, device=Device("cpu")).device.type == "cpu"


def test_an_unknown_device_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="'abacus' is unknown: use cpu, cuda or cuda:0") as error:
        choose_device("abacus")
    assert "\n" not in str(error.value)


def test_without_torch_only_the_cpu_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert choose_device("cpu") == choose_device() == "cpu"
    with pytest.raises(ValueError, match=r"device cuda:0 needs PyTorch.* pip install 'linewise\[torch\]'"):
        choose_device("cuda:0")

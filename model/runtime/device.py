"""Devices, named as in torch, and the torch that all but the CPU need."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

# Device files of drivers for accelerators: NVIDIA's, the one of WSL, AMD's.
DRIVER_FILES = ("nvidia*", "dxg", "kfd")


class Device(str):
    """Name of a device as torch takes it, such as `cpu` or `cuda:0`."""

    __slots__ = ()

    @property
    def type(self) -> str:
        """Kind of device, such as `cuda`."""
        return self.partition(":")[0]


def choose_device(device: object = None) -> Device:
    """Name a device; None is the GPU that torch finds, else the CPU.

    Raises:
        ValueError: no such device, or torch is not installed and the device is not the CPU.
    """
    if device is None:
        return Device("cuda" if _driver_is_present() and torch_is_installed() and _torch_finds_gpu() else "cpu")
    name = Device(device)
    if name in ("cpu", "cpu:0"):
        return name
    require_torch(f"device {name}")
    import torch

    try:
        return Device(torch.device(name))
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown: use cpu, cuda or cuda:0") from error


def torch_is_installed() -> bool:
    """Whether torch can be imported, without importing it."""
    return find_spec("torch") is not None


def require_torch(purpose: str) -> None:
    """Check that torch is installed.

    Raises:
        ValueError: it is not; the message names the extra to install.
    """
    if not torch_is_installed():
        raise ValueError(f"{purpose} needs PyTorch, which is not installed: pip install 'linewise[torch]'")


def _torch_finds_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _driver_is_present(folder: Path = Path("/dev")) -> bool:
    """Whether a driver for an accelerator seems to be there: importing torch to ask takes seconds."""
    return not folder.is_dir() or any(any(folder.glob(name)) for name in DRIVER_FILES)

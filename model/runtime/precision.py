"""Numerical precisions and which of them a processor supports."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from linewise.model.runtime.device import Device, require_torch, torch_is_installed

PRECISIONS = ("auto", "float32", "bfloat16", "int8")

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}


@cache
def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Instruction sets of the processor as Linux names them; none on other systems."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def supports_bfloat16(device: Device | str) -> bool:
    """Whether a CPU multiplies bfloat16 in hardware and torch is there to use it; False for accelerators."""
    return Device(device).type == "cpu" and torch_is_installed() and not cpu_flags().isdisjoint(BFLOAT16_FLAGS)


def supports_int8(device: Device | str) -> bool:
    """Whether a CPU multiplies 8-bit integers in hardware and torch has the kernels for it."""
    if Device(device).type != "cpu" or not torch_is_installed() or cpu_flags().isdisjoint(INT8_FLAGS):
        return False
    import torch

    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return all(hasattr(torch.ops.onednn, name) for name in ("qconv2d_pointwise", "qconv_prepack"))


def choose_precision(precision: str, device: Device, *, has_ranges: bool, plain: bool = True) -> str:
    """Resolve a precision of `PRECISIONS` to `float32`, `bfloat16` or `int8`.

    `auto` is the first of int8, bfloat16 and float32 that processor and weights support. `has_ranges` tells whether the
    weights come with ranges of activations, `plain` whether the network is a `CRNN` rather than a subclass, which
    computes otherwise.

    Raises:
        ValueError: an unknown precision, or one that the processor, the weights or the installed packages do not
            support.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision}")
    if precision == "auto":
        if has_ranges and plain and supports_int8(device):
            return "int8"
        return "bfloat16" if supports_bfloat16(device) else "float32"
    if precision != "float32":
        require_torch(f"precision {precision}")
    if precision == "int8" and not (plain and supports_int8(device)):
        raise ValueError(
            f"precision int8 needs a processor with VNNI or AMX, and {device} here has neither; use auto or float32"
        )
    if precision == "int8" and not has_ranges:
        raise ValueError("precision int8 needs weights with ranges: linewise calibrate measures them")
    if precision == "bfloat16" and device.type == "cpu" and not supports_bfloat16(device):
        raise ValueError(
            "precision bfloat16 needs a processor with AVX512-BF16 or AMX-BF16, and cpu here has neither;"
            " use auto or float32"
        )
    return precision

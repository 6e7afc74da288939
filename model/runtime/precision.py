"""Numerical precisions and which of them a processor supports."""

import torch

from linewise.model.network.crnn import CRNN

PRECISIONS = ("auto", "float32", "bfloat16", "int8")


def supports_bfloat16(device: torch.device | str) -> bool:
    """Whether a CPU multiplies bfloat16 in hardware (AVX512-BF16, AMX-BF16); False for accelerators."""
    if torch.device(device).type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def supports_int8(device: torch.device | str) -> bool:
    """Whether a CPU multiplies 8-bit integers in hardware (VNNI, AMX-INT8) and torch has the kernels for it."""
    if torch.device(device).type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not all(hasattr(torch.ops.onednn, name) for name in ("qconv2d_pointwise", "qconv_prepack")):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def choose_precision(precision: str, model: CRNN, device: torch.device) -> str:
    """Resolve a precision of `PRECISIONS` to `float32`, `bfloat16` or `int8`.

    `auto` is the first of int8, bfloat16 and float32 that processor and weights support.

    Raises:
        ValueError: an unknown precision, or one that the processor or the weights do not support.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision}")
    int8_capable = supports_int8(device) and type(model) is CRNN  # a subclass computes otherwise
    if precision == "auto":
        if int8_capable and model.config.ranges:
            return "int8"
        return "bfloat16" if supports_bfloat16(device) else "float32"
    if precision == "int8" and not int8_capable:
        raise ValueError(
            f"precision int8 needs a processor with VNNI or AMX, and {device} here has neither; use auto or float32"
        )
    if precision == "int8" and not model.config.ranges:
        raise ValueError("precision int8 needs weights with ranges: linewise calibrate measures them")
    if precision == "bfloat16" and device.type == "cpu" and not supports_bfloat16(device):
        raise ValueError(
            "precision bfloat16 needs a processor with AVX512-BF16 or AMX-BF16, and cpu here has neither;"
            " use auto or float32"
        )
    return precision


def float_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Dtype of the floating-point layers; with int8 those around the convolutions."""
    half = precision == "bfloat16" or (precision == "int8" and supports_bfloat16(device))
    return torch.bfloat16 if half else torch.float32

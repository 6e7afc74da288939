"""Process and device of a run: end signals and number formats."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import torch


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Replace the effect of SIGINT and SIGTERM by a flag; main thread only.

    Yields a function that tells whether one of them has arrived.
    """
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda which, _: received.append(which)) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Autocast to bfloat16 where the device has instructions for it, else float32.

    Without AVX512-BF16 or AMX a CPU emulates bfloat16, slower than float32.
    """
    if device.type != "cpu" or has_cpu_bfloat16():
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def has_cpu_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))

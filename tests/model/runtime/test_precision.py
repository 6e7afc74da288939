"""Precisions: what a processor supports, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import sys
from pathlib import Path

import pytest
import torch

from linewise.model import Reader
from linewise.model.network.crnn import CRNN
from linewise.model.runtime import precision as precisions
from linewise.model.runtime.device import Device
from linewise.model.runtime.precision import choose_precision, cpu_flags, supports_bfloat16, supports_int8
from tests.model.conftest import small_network
from tests.model.runtime.test_quantised import REAL, ranges


def test_an_unknown_precision_is_refused(network: CRNN) -> None:
    with pytest.raises(ValueError, match="one of auto, float32, bfloat16, int8"):
        Reader(network, precision="float16")


def test_the_precision_is_chosen_by_the_processor(network: CRNN, monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, precision in (({"amx_bf16", "avx2"}, "bfloat16"), ({"avx2"}, "float32"), (set(), "float32")):
        monkeypatch.setattr(precisions, "cpu_flags", lambda flags=flags: flags)
        assert Reader(copy.deepcopy(network), precision="auto").precision == precision
    assert not supports_bfloat16("cuda:0")


def test_the_instruction_sets_are_those_that_linux_names(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\nbugs : none\nflags : other\n")
    assert cpu_flags(file) == {"fpu", "avx2", "avx512_vnni"}
    (tmp_path / "arm").write_text("processor : 0\nFeatures : asimd bf16\n")
    assert cpu_flags(tmp_path / "arm") == cpu_flags(tmp_path / "none") == frozenset()
    capabilities = torch.cpu.get_capabilities()
    for name in precisions.BFLOAT16_FLAGS | precisions.INT8_FLAGS:
        assert (name in cpu_flags()) == bool(capabilities.get(name)), name


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_without_torch_other_precisions_name_the_extra(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "cpu_flags", lambda: {"amx_bf16", "amx_int8"})
    monkeypatch.setitem(sys.modules, "torch", None)
    assert choose_precision("auto", Device("cpu"), has_ranges=True) == "float32"
    with pytest.raises(ValueError, match=rf"precision {precision} needs PyTorch.* pip install 'linewise\[torch\]'"):
        choose_precision(precision, Device("cpu"), has_ranges=True)


def test_int8_is_refused_on_a_processor_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "cpu_flags", lambda: {"avx2"})
    assert not supports_int8("cpu")
    config = dataclasses.replace(REAL, ranges=ranges())
    assert Reader(small_network(1, config), precision="auto").precision == "float32"
    with pytest.raises(ValueError, match="VNNI or AMX"):
        Reader(small_network(1, config), precision="int8")
    assert not supports_int8("cuda:0")


def test_bfloat16_is_refused_on_a_processor_without_it(network: CRNN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "cpu_flags", lambda: {"avx2"})
    with pytest.raises(ValueError, match=r"bfloat16 needs .* AVX512-BF16 or AMX-BF16, .* use auto or float32") as error:
        Reader(network, precision="bfloat16")
    assert "\n" not in str(error.value)
    assert choose_precision("bfloat16", Device("cuda"), has_ranges=False) == "bfloat16"

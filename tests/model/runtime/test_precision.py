"""Precisions: what a processor supports, and what is refused."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from linewise.model import Reader
from linewise.model.network.crnn import CRNN
from linewise.model.runtime.precision import choose_precision, supports_bfloat16, supports_int8
from tests.model.conftest import small_network
from tests.model.runtime.test_quantised import REAL, ranges


def test_an_unknown_precision_is_refused(network: CRNN) -> None:
    with pytest.raises(ValueError, match="one of auto, float32, bfloat16, int8"):
        Reader(network, precision="float16")


def test_the_precision_is_chosen_by_the_processor(network: CRNN, monkeypatch: pytest.MonkeyPatch) -> None:
    for able, precision in (({"amx_bf16": True}, "bfloat16"), ({"avx512_bf16": False}, "float32"), ({}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert Reader(copy.deepcopy(network), precision="auto").precision == precision
    assert not supports_bfloat16("cuda:0")


def test_int8_is_refused_on_a_processor_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert not supports_int8("cpu")
    config = dataclasses.replace(REAL, ranges=ranges())
    assert Reader(small_network(1, config), precision="auto").precision == "float32"
    with pytest.raises(ValueError, match="VNNI or AMX"):
        Reader(small_network(1, config), precision="int8")
    assert not supports_int8("cuda:0")


def test_bfloat16_is_refused_on_a_processor_without_it(network: CRNN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(ValueError, match=r"bfloat16 needs .* AVX512-BF16 or AMX-BF16, .* use auto or float32") as error:
        Reader(network, precision="bfloat16")
    assert "\n" not in str(error.value)
    assert choose_precision("bfloat16", network, torch.device("cuda")) == "bfloat16"

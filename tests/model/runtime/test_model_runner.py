"""The model runner: the form in which a network runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from linewise.model import Reader
from linewise.model.network.crnn import CRNN
from linewise.model.runtime.device import Device
from linewise.model.runtime.fused import available
from linewise.model.runtime.model_runner import recogniser_runner
from linewise.model.runtime.torch_runner import TorchRunner
from tests.model.conftest import BarNet, small_network
from tests.model.runtime.test_fused import CPU, REAL


def test_without_the_kernels_the_network_itself_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 120), dtype=np.uint8)
    (fast,) = Reader(small_network(1, REAL)).logits([image])
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not available(CPU, torch.float32)
    (plain,) = Reader(small_network(1, REAL)).logits([image])
    assert float((fast - plain).abs().max()) < 1e-4


def test_a_subclass_runs_its_own_forward_pass(bar_reader: Reader) -> None:
    network = bar_reader.network
    assert isinstance(network, BarNet)
    images = torch.randn(2, 2, 32, 64)
    (logits,) = recogniser_runner(network, Device("cpu"), "auto").logits([images.numpy()])
    with torch.inference_mode():
        expected = network(images.to(next(network.parameters()).dtype)).float()
    assert torch.allclose(torch.from_numpy(logits), expected, atol=1e-5)


def test_logits_are_float32_in_the_order_of_the_batches(network: CRNN) -> None:
    batches = [torch.randn(count, 2, 32, width).numpy() for count, width in ((1, 96), (3, 32), (2, 96))]
    results = recogniser_runner(network, Device("cpu"), "auto").logits(batches)
    assert [tuple(logits.shape[:2]) for logits in results] == [(1, 24), (3, 8), (2, 24)]
    assert all(logits.dtype == np.float32 for logits in results)


def test_torch_computes_what_onnxruntime_computes(network: CRNN) -> None:
    batches = [torch.randn(count, 2, 32, width).numpy() for count, width in ((1, 96), (3, 32))]
    expected = recogniser_runner(network, Device("cpu"), "float32").logits(batches)
    for logits, one in zip(TorchRunner(network, Device("cpu"), "float32").logits(batches), expected, strict=True):
        np.testing.assert_allclose(logits, one, rtol=1e-4, atol=1e-4)

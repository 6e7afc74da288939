"""Model runners: one network on one device in one precision, from arrays to arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from linewise.model.network.checkpoint import NetworkWeights, fill
from linewise.model.network.config import DetectorConfig, ModelConfig
from linewise.model.runtime.device import Device
from linewise.model.runtime.onnx.detector import detector_graph
from linewise.model.runtime.onnx.recogniser import recogniser_graph
from linewise.model.runtime.onnx.session import OnnxNetwork
from linewise.model.runtime.precision import choose_precision

if TYPE_CHECKING:  # float32 on a CPU needs no torch
    from linewise.model.network.crnn import CRNN
    from linewise.model.network.detector import Detector

Array = NDArray[np.float32]


class ModelRunner(Protocol):
    """A network as it runs; `precision` is `float32`, `bfloat16` or `int8`.

    A picture's logits do not depend on its batch. On a CPU several threads may call it at once.
    """

    @property
    def precision(self) -> str:
        """Precision of the convolutions."""

    def logits(self, batches: Sequence[Array]) -> list[Array]:
        """Normalised images, float32 `(B, C, H, W)` of one size each -> float32 logits each."""


def recogniser_runner(network: NetworkWeights[ModelConfig] | CRNN, device: Device, precision: str) -> ModelRunner:
    """Run a recogniser: by onnxruntime in float32 on a CPU, else by torch. Logits are `(B, W / 4, classes)`.

    A network of torch is copied or taken over and modified.

    Raises:
        ValueError: as `choose_precision`.
    """
    ranges = network.config.ranges
    if isinstance(network, NetworkWeights):
        precision = choose_precision(precision, device, has_ranges=bool(ranges))
        if precision == "float32" and device.type == "cpu":
            return OnnxNetwork(recogniser_graph(network))
        from linewise.model.network.crnn import CRNN

        network = fill(CRNN(network.config), network)
    from linewise.model.network.crnn import CRNN
    from linewise.model.runtime.torch_runner import TorchRunner

    plain = type(network) is CRNN  # a subclass computes otherwise
    precision = choose_precision(precision, device, has_ranges=bool(ranges), plain=plain)
    if plain and precision == "float32" and device.type == "cpu":
        return OnnxNetwork(recogniser_graph(NetworkWeights.of(network)))
    return TorchRunner(network, device, precision)


def detector_runner(network: NetworkWeights[DetectorConfig] | Detector, device: Device, precision: str) -> ModelRunner:
    """Run a line detector beside a recogniser of this precision: by onnxruntime in float32 on a CPU, else by torch.

    Logits are `(B, 2, H / 4, W / 4)`. A network of torch is copied or taken over and modified.
    """
    if precision == "float32" and device.type == "cpu":
        weights = network if isinstance(network, NetworkWeights) else NetworkWeights.of(network)
        return OnnxNetwork(detector_graph(weights))
    from linewise.model.network.detector import Detector
    from linewise.model.runtime.precision import supports_bfloat16
    from linewise.model.runtime.torch_runner import TorchRunner

    module = fill(Detector(network.config), network) if isinstance(network, NetworkWeights) else network
    return TorchRunner(module, device, "bfloat16" if supports_bfloat16(device) else "float32")

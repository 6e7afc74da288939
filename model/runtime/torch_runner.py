"""Networks computed by torch: on accelerators, in bfloat16 and in 8-bit integers."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from linewise.model.network.checkpoint import NetworkWeights, fill
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.runtime import fused
from linewise.model.runtime.device import Device
from linewise.model.runtime.fused import Fused, fold_normalisation
from linewise.model.runtime.precision import supports_bfloat16
from linewise.model.runtime.quantised import Quantised

Array = NDArray[np.float32]


class Network(Protocol):
    """A network that computes a list of batches in one call."""

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Float `(B, C, H, W)` each, of any widths -> logits each."""


class Eager:
    """Any module run as it is, one batch after the other."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See `Network.logits`."""
        return [self._model(images) for images in batches]


class TorchRunner:
    """Runs a network in the fastest form that device and precision allow.

    `model` is the network with its normalisations folded away.
    """

    def __init__(self, model: nn.Module, device: Device, precision: str) -> None:
        """Take over `model`, which is modified, in a precision that `choose_precision` has returned."""
        self.precision = precision
        self._device = torch.device(device)
        half = precision == "bfloat16" or (precision == "int8" and supports_bfloat16(device))
        dtype = torch.bfloat16 if half else torch.float32  # with int8 that of the layers around the convolutions
        self.model = fold_normalisation(model.eval()).to(self._device)
        convert_conv2d_weight_memory_format(self.model, torch.channels_last)
        self._network: Network = Eager(self.model)
        with torch.inference_mode():
            if precision == "int8":
                assert isinstance(self.model, CRNN)
                self._network = Quantised(self.model, self.model.config.ranges, dtype)
            self.model.to(dtype)  # once: autocast would convert the weights for every batch
            plain_crnn = type(model) is CRNN  # a subclass computes otherwise
            if precision == "bfloat16" and plain_crnn and fused.available(self._device, dtype):
                assert isinstance(self.model, CRNN)
                self._network = Fused(self.model)
        self._input_dtype = torch.float32 if precision == "int8" else dtype

    def logits(self, batches: Sequence[Array]) -> list[Array]:
        """Normalised images `(B, C, H, W)` of one size each -> float32 logits each."""
        with torch.inference_mode():
            # TF32 off: its shorter products would let an answer depend on the batch size.
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                outputs = self._network.logits([self._input(images) for images in batches])
            return [np.asarray(logits.float().cpu().numpy(), np.float32) for logits in outputs]

    def _input(self, images: Array) -> torch.Tensor:
        tensor = torch.from_numpy(images).to(self._device, self._input_dtype)
        return tensor.contiguous(memory_format=torch.channels_last)


def folded_network(network: NetworkWeights[ModelConfig] | CRNN) -> CRNN:
    """A network of torch whose normalisations are folded away; one that is given is modified."""
    model = fill(CRNN(network.config), network) if isinstance(network, NetworkWeights) else network
    return fold_normalisation(model.eval())

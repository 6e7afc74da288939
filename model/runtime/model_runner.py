"""Model runner: one network on one device in one precision."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from linewise.model.network.crnn import CRNN
from linewise.model.runtime import fused
from linewise.model.runtime.fused import Fused, fold_normalisation
from linewise.model.runtime.onnx_session import OnnxNetwork
from linewise.model.runtime.precision import choose_precision, float_dtype
from linewise.model.runtime.quantised import Quantised


class Network(Protocol):
    """A network that computes a list of batches in one call."""

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Float `(B, C, H, W)` each, of any widths -> logits `(B, W / 4, classes)` each."""


class Eager:
    """Any module run as it is, one batch after the other."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See `Network.logits`."""
        return [self._model(images) for images in batches]


class ModelRunner:
    """Runs a network in the fastest form that device and precision allow.

    `precision` is the resolved one, `model` the network with its normalisations folded away.
    """

    def __init__(self, model: CRNN, device: torch.device, precision: str) -> None:
        """Take over `model`, which is modified.

        Raises:
            ValueError: as `choose_precision`.
        """
        self.precision = choose_precision(precision, model, device)
        self._device = device
        dtype = float_dtype(self.precision, device)
        plain_crnn = type(model) is CRNN  # a subclass computes otherwise
        onnx_network = None
        if self.precision == "float32" and device.type == "cpu" and plain_crnn:
            onnx_network = OnnxNetwork(model)
        self.model = fold_normalisation(model.eval()).to(device)
        convert_conv2d_weight_memory_format(self.model, torch.channels_last)
        self._network: Network = Eager(self.model)
        with torch.inference_mode():
            if self.precision == "int8":
                self._network = Quantised(self.model, model.config.ranges, dtype)
            self.model.to(dtype)  # once: autocast would convert the weights for every batch
            if onnx_network is not None:
                self._network = onnx_network
            elif self.precision == "bfloat16" and plain_crnn and fused.available(device, dtype):
                self._network = Fused(self.model)
        self._input_dtype = torch.float32 if self.precision == "int8" else dtype

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Normalised images `(B, C, H, W)` of one width each -> float32 logits `(B, W / 4, classes)` each."""
        inputs = [images.to(self._input_dtype).contiguous(memory_format=torch.channels_last) for images in batches]
        if self._device.type == "cpu":
            return [logits.float() for logits in self._network.logits(inputs)]
        # TF32 off: its shorter products would let an answer depend on the batch size.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return [logits.float() for logits in self._network.logits(inputs)]

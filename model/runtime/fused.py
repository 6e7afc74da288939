"""The network as it is run: normalisations folded away and, on a CPU, in oneDNN's fused kernels.

There, convolution, sum and ReLU are one pass, the LSTM's weights are laid out once, and small batches
share its steps. The operators are those that `torch.compile` emits for a CPU. Called directly they
need no C++ compiler on the user's machine and no seconds of compiling for each width.
"""

import itertools
import os
from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from linewise.model.network.crnn import CRNN, ResidualBlock

# Kernels that oneDNN keeps. By itself it keeps 1024, those of some forty shapes of a batch, and would
# make the others anew each time: 6 ms for a pass that takes 10.
KERNELS = 1024
WIDTHS = 14  # for so many, the layout for a single picture is kept: 60 MB in bfloat16
TOGETHER = 4  # pictures of several widths in a step of the LSTM; more gain nothing and wait for the widest
LSTM_MODE = 2  # of the recurrent operator: 0 to 3 are ReLU, tanh, LSTM, GRU

Module = TypeVar("Module", bound=nn.Module)


def multiplies_bfloat16(device: torch.device | str) -> bool:
    """Whether a processor has instructions for bfloat16; accelerators are left at float32, untried."""
    if torch.device(device).type != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def fold_normalisation(model: Module) -> Module:
    """Fold each batch normalisation into the convolution declared right before it, in place.

    The function computed stays the same up to rounding and takes two passes over memory less per layer.
    """
    for parent in list(model.modules()):
        children = list(parent.named_children())
        for (name, convolution), (following, normalisation) in itertools.pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, normalisation))
                setattr(parent, following, nn.Identity())
    return model


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this build and this processor have the kernels."""
    operators = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_mkldnn_rnn_layer_weight")
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in operators):
        return False
    return dtype is torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def keep_kernels() -> None:
    """Has oneDNN keep `KERNELS` of them, unless the environment says otherwise; too late once it has made one."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))


class Network(Protocol):
    """A network that computes several batches of pictures at once."""

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Float `(B, C, H, W)` each, of any widths -> logits `(B, W / 4, classes)` each."""


class Plain:
    """Any module as it is, one batch after the other."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """As `Network`."""
        return [self._model(images) for images in batches]


class Fused:
    """A `CRNN` whose normalisations are folded away, for inference on a CPU.

    It computes what the network itself computes, up to rounding, in the network's own dtype. The
    weights are copied.
    """

    def __init__(self, model: CRNN) -> None:
        keep_kernels()
        stem, *rest = (layer for layer in model.backbone if isinstance(layer, nn.Conv2d | ResidualBlock))
        assert isinstance(stem, nn.Conv2d)
        self._stem = _Convolution(stem)
        self._blocks = [_Block(block) for block in rest if isinstance(block, ResidualBlock)]
        self._pool, self._read = model.pool, Recurrent(model.lstm, model.head)

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """As `Network`."""
        return self._read([self._columns(images) for images in batches])

    def _columns(self, images: torch.Tensor) -> torch.Tensor:
        # A picture of one channel has no order of channels to go by, and the sums below need this one.
        x = self._stem(images, "relu").contiguous(memory_format=torch.channels_last)
        for block in self._blocks:
            x = block(x)
        columns: torch.Tensor = self._pool(x)  # (B, C, T)
        return columns


class _Convolution:
    def __init__(self, conv: nn.Conv2d) -> None:
        assert conv.bias is not None
        self._bias = conv.bias.detach()
        self._shape = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        # As they are, for oneDNN to lay out at each call: the best layout depends on batch and width, and from a wrong
        # one it is slow to change. For single pictures, where it takes the largest share, it is kept.
        self._weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self._for_one: dict[torch.Size, torch.Tensor] = {}

    def _laid_out(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 1:
            return self._weight
        weight = self._for_one.get(x.shape)
        if weight is None:
            if len(self._for_one) >= WIDTHS:
                return self._weight
            weight = torch.ops.mkldnn._reorder_convolution_weight(self._weight, *self._shape, list(x.shape))
            self._for_one[x.shape] = weight
        return weight

    def __call__(self, x: torch.Tensor, activation: str = "none") -> torch.Tensor:
        convolve = torch.ops.mkldnn._convolution_pointwise
        result: torch.Tensor = convolve(x, self._laid_out(x), self._bias, *self._shape, activation, [], "")
        return result

    def add_to(self, total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """ReLU of the sum of `total` and the convolution of `x`, written over `total`."""
        convolve = torch.ops.mkldnn._convolution_pointwise_.binary
        result: torch.Tensor = convolve(
            total, x, self._laid_out(x), self._bias, *self._shape, "add", 1.0, "relu", [], ""
        )  # fmt: skip
        return result


class _Block:
    def __init__(self, block: ResidualBlock) -> None:
        self._first, self._second = _Convolution(block.conv1), _Convolution(block.conv2)
        shortcut = block.shortcut
        self._shortcut = _Convolution(shortcut[0]) if isinstance(shortcut, nn.Sequential) else None  # type: ignore[arg-type]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = self._first(x, "relu")
        return self._second.add_to(x if self._shortcut is None else self._shortcut(x), y)


class Recurrent:
    """A bidirectional LSTM and the layer of logits behind it: columns `(B, C, T)` -> logits `(B, T, classes)`.

    A step of the LSTM takes as long for one picture as for three, so that small batches of several
    widths take their steps together, side by side. Each picture is read from its own end to its
    beginning, not from that of the widest, so that its answer does not depend on its company. In
    bfloat16 nothing is read alone: oneDNN takes another kernel for that, which rounds elsewhere.
    """

    def __init__(self, lstm: nn.LSTM, head: nn.Module) -> None:
        self._hidden, self._head = lstm.hidden_size, head
        self._layers = [
            [self._packed(lstm, f"l{layer}{suffix}") for suffix in ("", "_reverse")] for layer in range(lstm.num_layers)
        ]

    def _packed(self, lstm: nn.LSTM, name: str) -> list[torch.Tensor]:
        w_input, w_hidden, b_input, b_hidden = (
            getattr(lstm, f"{kind}_{name}").detach() for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        packed: list[torch.Tensor] = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
            w_input, w_hidden, self._hidden, False, True, False
        )
        return [*packed, b_input, b_hidden]

    def __call__(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        found: dict[int, torch.Tensor] = {}
        by_width = sorted(range(len(batches)), key=lambda index: batches[index].shape[2])
        while by_width:
            together: list[int] = []
            rows = 0
            while by_width and (not together or rows + len(batches[by_width[0]]) <= TOGETHER):
                together.append(by_width.pop(0))
                rows += len(batches[together[-1]])
            found.update(zip(together, self._steps([batches[index] for index in together]), strict=True))
        return [found[index] for index in range(len(batches))]

    def _steps(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        rows = sum(len(columns) for columns in batches)
        least = 2 if batches[0].dtype is torch.bfloat16 else 1
        places, first = [], 0
        if rows > 2:  # three cost as much as four, and a kernel less has to be made and kept
            rows = -(-rows // TOGETHER) * TOGETHER
        x = batches[0].new_zeros(max(c.shape[2] for c in batches), max(rows, least), batches[0].shape[1])  # (T, B, C)
        for columns in batches:
            places.append((slice(columns.shape[2]), slice(first, first + len(columns))))
            x[places[-1]] = columns.permute(2, 0, 1)
            first += len(columns)
        state = x.new_zeros(1, x.shape[1], self._hidden)
        for ahead, back in self._layers:
            read = self._layer(x, ahead, state), _turned(self._layer(_turned(x, places), back, state), places)
            x = torch.cat(read, dim=-1)
        logits: torch.Tensor = self._head(x)  # (T, B, classes)
        return [logits[place].transpose(0, 1) for place in places]

    def _layer(self, x: torch.Tensor, weights: list[torch.Tensor], state: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.aten.mkldnn_rnn_layer(
            x, *weights, state, state, False, [], LSTM_MODE, self._hidden, 1, True, False, False, False
        )[0]
        return result


def _turned(x: torch.Tensor, places: Sequence[tuple[slice, slice]]) -> torch.Tensor:
    """A copy of `(T, B, C)` in which each of the places is the other way round in time."""
    other = torch.zeros_like(x)
    for place in places:
        other[place] = x[place].flip(0)
    return other

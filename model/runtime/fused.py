"""Inference on a CPU with oneDNN's fused kernels, and folding of batch normalisation.

Convolution, sum and ReLU are one pass, the LSTM's weights are laid out once, and small batches
share its steps. The operators are those that `torch.compile` emits for a CPU. Called directly, they
need neither a C++ compiler on the user's machine nor seconds of compiling for each width.
"""

import itertools
import os
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from linewise.model.network.crnn import CRNN, ResidualBlock

# Kernels that oneDNN caches, those of some forty batch shapes; it makes any other kernel anew in each pass.
KERNEL_CACHE_CAPACITY = 1024

CACHED_LAYOUTS = 14  # input shapes of single images per convolution whose weight layout is kept: 60 MB in bfloat16
LSTM_STEP_IMAGES = 4  # images of several widths in one LSTM step; more gain nothing and wait for the widest
LSTM_MODE = 2  # of the recurrent operator: 0 to 3 are ReLU, tanh, LSTM, GRU

Module = TypeVar("Module", bound=nn.Module)


def fold_normalisation(model: Module) -> Module:
    """Fold each batch normalisation into the convolution declared right before it, in place.

    Returns `model`, which computes the same up to rounding, with two passes over memory less per layer.
    """
    for parent in list(model.modules()):
        children = list(parent.named_children())
        for (name, convolution), (following, normalisation) in itertools.pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, normalisation))
                setattr(parent, following, nn.Identity())
    return model


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this build of torch and this processor have the fused kernels."""
    operators = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_mkldnn_rnn_layer_weight")
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in operators):
        return False
    return dtype is torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def set_kernel_cache_capacity() -> None:
    """Set the size of oneDNN's kernel cache, unless the environment does; ignored once oneDNN has made a kernel."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNEL_CACHE_CAPACITY))


class Fused:
    """Fused inference of a `CRNN` on a CPU, in the network's dtype.

    Results equal the network's up to rounding. The weights are copied.
    """

    def __init__(self, model: CRNN) -> None:
        """Copy the weights of `model`, whose normalisations are folded away."""
        set_kernel_cache_capacity()
        stem, *rest = (layer for layer in model.backbone if isinstance(layer, nn.Conv2d | ResidualBlock))
        assert isinstance(stem, nn.Conv2d)
        self._stem = _Convolution(stem)
        self._blocks = [_Block(block) for block in rest if isinstance(block, ResidualBlock)]
        self._pool, self._recurrent = model.pool, Recurrent(model.lstm, model.head)

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Float `(B, C, H, W)` each, of any widths -> logits `(B, W / 4, classes)` each."""
        return self._recurrent([self._columns(images) for images in batches])

    def _columns(self, images: torch.Tensor) -> torch.Tensor:
        # The memory format of one-channel images is ambiguous, and the in-place sums below need this one.
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
        # Plain, for oneDNN to lay out in each call: the best layout depends on batch and width, and converting from a
        # wrong one is slow. For single images, where laying out takes the largest share of the time, it is cached.
        self._weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self._layouts: dict[torch.Size, torch.Tensor] = {}

    def _laid_out(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 1:
            return self._weight
        weight = self._layouts.get(x.shape)
        if weight is None:
            if len(self._layouts) >= CACHED_LAYOUTS:
                return self._weight
            weight = torch.ops.mkldnn._reorder_convolution_weight(self._weight, *self._shape, list(x.shape))
            self._layouts[x.shape] = weight
        return weight

    def __call__(self, x: torch.Tensor, activation: str = "none") -> torch.Tensor:
        convolve = torch.ops.mkldnn._convolution_pointwise
        result: torch.Tensor = convolve(x, self._laid_out(x), self._bias, *self._shape, activation, [], "")
        return result

    def add_to(self, total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """ReLU of `total` plus the convolution of `x`, computed in place of `total`."""
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
    """Bidirectional LSTM with its linear layer of logits: columns `(B, C, T)` -> logits `(B, T, classes)`.

    An LSTM step takes as long for one image as for three, so small batches of several
    widths share their steps. The backward direction starts at each image's own end rather than at the widest
    image's, so a result does not depend on the batch. In bfloat16, a single image gets an empty companion,
    because oneDNN's kernel for a batch of one rounds differently.
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
        """Columns `(B, C, T)` each -> logits `(B, T, classes)` each."""
        results: dict[int, torch.Tensor] = {}
        by_width = sorted(range(len(batches)), key=lambda index: batches[index].shape[2])
        while by_width:
            group: list[int] = []
            rows = 0
            while by_width and (not group or rows + len(batches[by_width[0]]) <= LSTM_STEP_IMAGES):
                group.append(by_width.pop(0))
                rows += len(batches[group[-1]])
            results.update(zip(group, self._run_group([batches[index] for index in group]), strict=True))
        return [results[index] for index in range(len(batches))]

    def _run_group(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Logits of batches that share the steps of the LSTM."""
        rows = sum(len(columns) for columns in batches)
        min_rows = 2 if batches[0].dtype is torch.bfloat16 else 1
        slots, first = [], 0
        if rows > 2:  # three cost as much as four, and fewer shapes mean fewer kernels
            rows = -(-rows // LSTM_STEP_IMAGES) * LSTM_STEP_IMAGES
        frames = max(columns.shape[2] for columns in batches)
        x = batches[0].new_zeros(frames, max(rows, min_rows), batches[0].shape[1])  # (T, B, C)
        for columns in batches:
            slots.append((slice(columns.shape[2]), slice(first, first + len(columns))))
            x[slots[-1]] = columns.permute(2, 0, 1)
            first += len(columns)
        state = x.new_zeros(1, x.shape[1], self._hidden)
        for forward, backward in self._layers:
            reverse = _time_reversed(self._layer(_time_reversed(x, slots), backward, state), slots)
            x = torch.cat((self._layer(x, forward, state), reverse), dim=-1)
        logits: torch.Tensor = self._head(x)  # (T, B, classes)
        return [logits[slot].transpose(0, 1) for slot in slots]

    def _layer(self, x: torch.Tensor, weights: list[torch.Tensor], state: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.aten.mkldnn_rnn_layer(
            x, *weights, state, state, False, [], LSTM_MODE, self._hidden, 1, True, False, False, False
        )[0]
        return result


def _time_reversed(x: torch.Tensor, slots: Sequence[tuple[slice, slice]]) -> torch.Tensor:
    """A copy of `x` `(T, B, C)` in which the frames of each slot are in reverse order."""
    result = torch.zeros_like(x)
    for slot in slots:
        result[slot] = x[slot].flip(0)
    return result

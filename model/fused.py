"""The network as it is run: normalisations folded away and, on a CPU, in oneDNN's fused kernels.

There, convolution, sum and ReLU are one pass, and the LSTM's weights are laid out once. The operators
are those that `torch.compile` emits for a CPU. Called directly they need no C++ compiler on the user's
machine and no seconds of compiling for each width.
"""

import itertools
import os
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.crnn import CRNN, ResidualBlock

# Kernels that oneDNN keeps. By itself it keeps 1024, those of some forty shapes of a batch, and would
# make the others anew each time: 6 ms for a pass that takes 10.
KERNELS = 2048
WIDTHS = 14  # for so many, the layout for a single picture is kept: 60 MB in bfloat16
LSTM_MODE = 2  # of the recurrent operator: 0 to 3 are ReLU, tanh, LSTM, GRU

Network = TypeVar("Network", bound=nn.Module)


def multiplies_bfloat16(device: torch.device | str) -> bool:
    """Whether a processor has instructions for bfloat16; accelerators are left at float32, untried."""
    if torch.device(device).type != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def fold_normalisation(model: Network) -> Network:
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


class Fused:
    """A `CRNN` whose normalisations are folded away, for inference on a CPU.

    Float `(B, 1, H, W)` of the network's own dtype -> logits `(B, W / 4, classes)`, as the network
    itself computes them up to rounding. The weights are copied.
    """

    def __init__(self, model: CRNN) -> None:
        keep_kernels()
        stem, *rest = (layer for layer in model.backbone if isinstance(layer, nn.Conv2d | ResidualBlock))
        assert isinstance(stem, nn.Conv2d)
        self._stem = _Convolution(stem)
        self._blocks = [_Block(block) for block in rest if isinstance(block, ResidualBlock)]
        self._pool, self._head = model.pool, model.head
        self._lstm = Recurrent(model.lstm)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        # A picture of one channel has no order of channels to go by, and the sums below need this one.
        x = self._stem(images, "relu").contiguous(memory_format=torch.channels_last)
        for block in self._blocks:
            x = block(x)
        columns: torch.Tensor = self._pool(x)  # (B, C, T)
        logits: torch.Tensor = self._head(self._lstm(columns.permute(2, 0, 1).contiguous()))  # (T, B, classes)
        return logits.transpose(0, 1)


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
    """A bidirectional LSTM over `(T, B, C)`.

    Never with a batch of one: for that oneDNN takes another kernel, which rounds bfloat16 elsewhere,
    and the same picture would get another confidence alone than in company.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        self._hidden = lstm.hidden_size
        self._layers = [
            [self._packed(lstm, f"l{layer}{suffix}", bool(suffix)) for suffix in ("", "_reverse")]
            for layer in range(lstm.num_layers)
        ]

    def _packed(self, lstm: nn.LSTM, name: str, reverse: bool) -> list[torch.Tensor]:
        w_input, w_hidden, b_input, b_hidden = (
            getattr(lstm, f"{kind}_{name}").detach() for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        packed: list[torch.Tensor] = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
            w_input, w_hidden, self._hidden, reverse, True, False
        )
        return [*packed, b_input, b_hidden]

    def __call__(self, columns: torch.Tensor) -> torch.Tensor:
        count = columns.shape[1]
        if count == 1 and columns.dtype is torch.bfloat16:
            columns = columns.expand(-1, 2, -1).contiguous()
        state = columns.new_zeros(1, columns.shape[1], self._hidden)
        for directions in self._layers:
            columns = torch.cat(
                [
                    torch.ops.aten.mkldnn_rnn_layer(
                        columns,
                        *weights,
                        state,
                        state,
                        reverse,
                        [],
                        LSTM_MODE,
                        self._hidden,
                        1,
                        True,
                        False,
                        False,
                        False,
                    )[0]
                    for weights, reverse in zip(directions, (False, True), strict=True)
                ],
                dim=-1,
            )
        return columns[:, :count].contiguous()

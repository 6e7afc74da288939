"""The network with its convolutions in 8-bit integers, for processors that multiply those twice as fast.

Affine quantisation after Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (CVPR 2018): weights symmetric with a scale for each channel, what
flows between the convolutions unsigned with one scale for each tensor, from ranges that were measured
beforehand and stand in the checkpoint. Sums of integers are exact, so no answer can depend on its
company. The recurrent part stays in floating point: it is narrow, and oneDNN has no integers for it.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from linewise.model.network.crnn import CRNN, ResidualBlock
from linewise.model.runtime.fused import Recurrent, keep_kernels

LEVELS = 255  # steps of an unsigned byte
LARGEST = 127  # of a weight; -128 is left out, so that the scale is symmetric

# Of the values of a tensor, those that its range leaves out at either end: a single outlier would
# make the steps of all others coarse.
OUTLIERS = 1e-4
MOST = 1_000_000  # values of a tensor that are looked at

Range = tuple[float, float]


def multiplies_int8(device: torch.device | str) -> bool:
    """Whether this build has the kernels and the processor instructions for sums of 8-bit products (VNNI, AMX)."""
    if torch.device(device).type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not all(hasattr(torch.ops.onednn, name) for name in ("qconv2d_pointwise", "qconv_prepack")):
        return False
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def measure_ranges(model: CRNN, batches: Iterable[torch.Tensor]) -> tuple[Range, ...]:
    """What the tensors between the convolutions span, in the order in which `Quantised` takes them.

    `model` is in evaluation mode and its normalisations are folded into its convolutions; `batches`
    are normalised images `(B, C, H, W)` of many kinds.

    Raises:
        ValueError: no batches.
    """
    spans: list[list[float]] = []
    turn = 0

    def see(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal turn
        values = tensor.flatten()
        ordered = values[:: -(-values.numel() // MOST)].sort().values
        beyond = int(OUTLIERS * len(ordered))
        low, high = min(0.0, float(ordered[beyond])), max(0.0, float(ordered[-1 - beyond]))
        if turn == len(spans):
            spans.append([low, high])
        spans[turn] = [min(low, spans[turn][0]), max(high, spans[turn][1])]
        turn += 1
        return tensor

    stem, blocks = _parts(model)
    with torch.inference_mode():
        for images in batches:
            turn = 0
            x = see(torch.relu(stem(see(images))))
            for block in blocks:
                y = see(torch.relu(block.conv1(x)))
                shortcut = block.shortcut(x)
                if isinstance(block.shortcut, nn.Sequential):
                    see(shortcut)
                x = see(torch.relu(block.conv2(y) + shortcut))
    if not spans:
        raise ValueError("ranges cannot be measured without images")
    return tuple((low, max(high, low + 1e-6)) for low, high in spans)


class Quantised:
    """A `CRNN` whose convolutions are done in 8-bit integers, for inference on a CPU, from float32 images."""

    def __init__(self, model: CRNN, ranges: Sequence[Range], dtype: torch.dtype) -> None:
        """Take over `model`, whose normalisations are folded away, with ranges from `measure_ranges`.

        Its convolutions are float32 and stay as they are; what follows them becomes `dtype`.

        Raises:
            ValueError: there are more or fewer ranges than the network has tensors.
        """
        keep_kernels()
        stem, blocks = _parts(model)
        needed = 2 + sum(3 if isinstance(block.shortcut, nn.Sequential) else 2 for block in blocks)
        if len(ranges) != needed:
            raise ValueError(f"there are {len(ranges)} ranges, and the network needs {needed}")
        tensors = iter([_Tensor(*span) for span in ranges])
        self._input, self._first = next(tensors), next(tensors)
        self._stem = _Convolution(stem, self._input)
        self._blocks = []
        x = self._first
        for block in blocks:
            self._blocks.append(_Block(block, x, tensors))
            x = self._blocks[-1].result
        self._last = x
        self._dtype = dtype
        self._pool, self._read = model.pool.to(dtype), Recurrent(model.lstm.to(dtype), model.head.to(dtype))

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """As `model.runtime.fused.Network`."""
        return self._read([self._columns(images) for images in batches])

    def _columns(self, images: torch.Tensor) -> torch.Tensor:
        x = self._stem(self._input.quantise(images), self._first, "relu")
        for block in self._blocks:
            x = block(x)
        features = x.to(self._dtype) * self._last.scale  # rectified, so that its zero is 0
        columns: torch.Tensor = self._pool(features)  # (B, C, T)
        return columns


class _Tensor:
    """How one tensor is held: `value = scale * (byte - zero)`."""

    def __init__(self, low: float, high: float) -> None:
        self.scale = (high - low) / LEVELS
        self.zero = round(-low / self.scale)

    def quantise(self, values: torch.Tensor) -> torch.Tensor:
        steps = (values * (1 / self.scale) + self.zero).round_().clamp_(0, LEVELS)
        return steps.to(torch.uint8).contiguous(memory_format=torch.channels_last)


class _Convolution:
    def __init__(self, conv: nn.Conv2d, source: _Tensor) -> None:
        assert conv.bias is not None
        weight = conv.weight.detach().float()
        self._scales = (weight.abs().amax((1, 2, 3)).clamp_min(1e-8) / LARGEST).contiguous()
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._weight = (weight / self._scales[:, None, None, None]).round().to(torch.int8)
        self._bias = conv.bias.detach().float()
        self._source = source
        self._shape = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)
        self._packed: dict[int, torch.Tensor] = {}

    def _weights(self, x: torch.Tensor) -> torch.Tensor:
        # Laid out for each width: oneDNN wants two layouts, and to change from one to the other in a call would take
        # ten times as long as the convolution of a single picture.
        width = x.shape[3]
        packed = self._packed.get(width)
        if packed is None:
            packed = torch.ops.onednn.qconv_prepack(
                self._weight, self._scales, self._source.scale, self._source.zero, *self._shape, list(x.shape)
            )
            self._packed[width] = packed
        return packed

    def __call__(self, x: torch.Tensor, result: _Tensor, activation: str = "none") -> torch.Tensor:
        done: torch.Tensor = torch.ops.onednn.qconv2d_pointwise(
            x, self._source.scale, self._source.zero, self._weights(x), self._scales, self._zeros, self._bias,
            *self._shape, result.scale, result.zero, torch.uint8, activation, [], "",
        )  # fmt: skip
        return done

    def add_to(self, total: torch.Tensor, held: _Tensor, x: torch.Tensor, result: _Tensor) -> torch.Tensor:
        """ReLU of the sum of `total`, which is `held` so, and the convolution of `x`, written over `total`."""
        done: torch.Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            x, self._source.scale, self._source.zero, self._weights(x), self._scales, self._zeros, total, self._bias,
            *self._shape, result.scale, result.zero, torch.uint8, held.scale, held.zero, "sum", 1.0, "relu", [], "",
        )  # fmt: skip
        return done


class _Block:
    def __init__(self, block: ResidualBlock, source: _Tensor, tensors: Iterable[_Tensor]) -> None:
        following = iter(tensors)
        self._middle = next(following)
        self._first, self._second = _Convolution(block.conv1, source), _Convolution(block.conv2, self._middle)
        self._shortcut, self._beside = None, source
        if isinstance(block.shortcut, nn.Sequential):
            assert isinstance(block.shortcut[0], nn.Conv2d)
            self._shortcut, self._beside = _Convolution(block.shortcut[0], source), next(following)
        self.result = next(following)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = self._first(x, self._middle, "relu")
        beside = x if self._shortcut is None else self._shortcut(x, self._beside)
        return self._second.add_to(beside, self._beside, y, self.result)


def _parts(model: CRNN) -> tuple[nn.Conv2d, list[ResidualBlock]]:
    stem, *rest = (layer for layer in model.backbone if isinstance(layer, nn.Conv2d | ResidualBlock))
    assert isinstance(stem, nn.Conv2d)
    return stem, [block for block in rest if isinstance(block, ResidualBlock)]

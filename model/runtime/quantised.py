"""Inference on a CPU with convolutions in 8-bit integers.

Affine quantisation after Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (CVPR 2018): weights are symmetric with one scale per channel, activations
unsigned with one scale per tensor, from ranges that are measured beforehand and stored in the
checkpoint. Sums of integers are exact, so a result does not depend on its batch. The recurrent part stays in
floating point, since oneDNN has no integer kernels for it.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from linewise.model.network.crnn import CRNN, ResidualBlock
from linewise.model.runtime.fused import Recurrent, set_kernel_cache_capacity

ACTIVATION_STEPS = 255  # of an unsigned byte
MAX_WEIGHT = 127  # -128 is unused, so that the scale is symmetric

# Share of a tensor's values that its range excludes at either end: a single outlier would make every step coarse.
OUTLIER_SHARE = 1e-4
MAX_SAMPLED_VALUES = 1_000_000  # of a tensor, for its range

Range = tuple[float, float]


def measure_ranges(model: CRNN, batches: Iterable[torch.Tensor]) -> tuple[Range, ...]:
    """Ranges of the network's input and activations, in the order in which `Quantised` takes them.

    `model` is in evaluation mode with its normalisations folded away; `batches`
    are normalised images `(B, C, H, W)` of many kinds.

    Raises:
        ValueError: no batches.
    """
    ranges: list[list[float]] = []
    number = 0  # of the tensor within one pass

    def record(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal number
        values = tensor.flatten()
        ordered = values[:: -(-values.numel() // MAX_SAMPLED_VALUES)].sort().values
        outliers = int(OUTLIER_SHARE * len(ordered))
        low, high = min(0.0, float(ordered[outliers])), max(0.0, float(ordered[-1 - outliers]))
        if number == len(ranges):
            ranges.append([low, high])
        ranges[number] = [min(low, ranges[number][0]), max(high, ranges[number][1])]
        number += 1
        return tensor

    stem, blocks = _parts(model)
    with torch.inference_mode():
        for images in batches:
            number = 0
            x = record(torch.relu(stem(record(images))))
            for block in blocks:
                y = record(torch.relu(block.conv1(x)))
                shortcut = block.shortcut(x)
                if isinstance(block.shortcut, nn.Sequential):
                    record(shortcut)
                x = record(torch.relu(block.conv2(y) + shortcut))
    if not ranges:
        raise ValueError("ranges cannot be measured without images")
    return tuple((low, max(high, low + 1e-6)) for low, high in ranges)


class Quantised:
    """Inference of a `CRNN` on a CPU with 8-bit convolutions, from float32 images."""

    def __init__(self, model: CRNN, ranges: Sequence[Range], dtype: torch.dtype) -> None:
        """Take over `model`, whose normalisations are folded away, with ranges from `measure_ranges`.

        Its convolutions are float32 and stay so; the later layers become `dtype`.

        Raises:
            ValueError: another number of ranges than the network has tensors.
        """
        set_kernel_cache_capacity()
        stem, blocks = _parts(model)
        needed = 2 + sum(3 if isinstance(block.shortcut, nn.Sequential) else 2 for block in blocks)
        if len(ranges) != needed:
            raise ValueError(f"there are {len(ranges)} ranges, and the network needs {needed}")
        tensors = iter([_Quantiser(*bounds) for bounds in ranges])
        self._input, self._stem_output = next(tensors), next(tensors)
        self._stem = _Convolution(stem, self._input)
        self._blocks = []
        x = self._stem_output
        for block in blocks:
            self._blocks.append(_Block(block, x, tensors))
            x = self._blocks[-1].output
        self._features = x
        self._dtype = dtype
        self._pool, self._recurrent = model.pool.to(dtype), Recurrent(model.lstm.to(dtype), model.head.to(dtype))

    def logits(self, batches: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Float32 `(B, C, H, W)` each, of any widths -> logits `(B, W / 4, classes)` each."""
        return self._recurrent([self._columns(images) for images in batches])

    def _columns(self, images: torch.Tensor) -> torch.Tensor:
        x = self._stem(self._input.quantise(images), self._stem_output, "relu")
        for block in self._blocks:
            x = block(x)
        features = x.to(self._dtype) * self._features.scale  # the zero point is 0 after a ReLU
        columns: torch.Tensor = self._pool(features)  # (B, C, T)
        return columns


class _Quantiser:
    """Affine quantisation of one tensor: `value = scale * (byte - zero)`."""

    def __init__(self, low: float, high: float) -> None:
        self.scale = (high - low) / ACTIVATION_STEPS
        self.zero = round(-low / self.scale)

    def quantise(self, values: torch.Tensor) -> torch.Tensor:
        steps = (values * (1 / self.scale) + self.zero).round_().clamp_(0, ACTIVATION_STEPS)
        return steps.to(torch.uint8).contiguous(memory_format=torch.channels_last)


class _Convolution:
    def __init__(self, conv: nn.Conv2d, source: _Quantiser) -> None:
        assert conv.bias is not None
        weight = conv.weight.detach().float()
        self._scales = (weight.abs().amax((1, 2, 3)).clamp_min(1e-8) / MAX_WEIGHT).contiguous()
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._weight = (weight / self._scales[:, None, None, None]).round().to(torch.int8)
        self._bias = conv.bias.detach().float()
        self._source = source
        self._shape = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)
        self._packed: dict[int, torch.Tensor] = {}

    def _weights(self, x: torch.Tensor) -> torch.Tensor:
        # Packed for each width: oneDNN uses two layouts, and converting between them in a call would take
        # ten times as long as the convolution of a single image.
        width = x.shape[3]
        packed = self._packed.get(width)
        if packed is None:
            packed = torch.ops.onednn.qconv_prepack(
                self._weight, self._scales, self._source.scale, self._source.zero, *self._shape, list(x.shape)
            )
            self._packed[width] = packed
        return packed

    def __call__(self, x: torch.Tensor, output: _Quantiser, activation: str = "none") -> torch.Tensor:
        result: torch.Tensor = torch.ops.onednn.qconv2d_pointwise(
            x, self._source.scale, self._source.zero, self._weights(x), self._scales, self._zeros, self._bias,
            *self._shape, output.scale, output.zero, torch.uint8, activation, [], "",
        )  # fmt: skip
        return result

    def add_to(self, total: torch.Tensor, quantiser: _Quantiser, x: torch.Tensor, output: _Quantiser) -> torch.Tensor:
        """ReLU of `total`, quantised by `quantiser`, plus the convolution of `x`, computed in place of `total`."""
        result: torch.Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            x, self._source.scale, self._source.zero, self._weights(x), self._scales, self._zeros, total, self._bias,
            *self._shape, output.scale, output.zero, torch.uint8, quantiser.scale, quantiser.zero, "sum", 1.0, "relu",
            [], "",
        )  # fmt: skip
        return result


class _Block:
    def __init__(self, block: ResidualBlock, source: _Quantiser, tensors: Iterable[_Quantiser]) -> None:
        following = iter(tensors)
        self._middle = next(following)
        self._first, self._second = _Convolution(block.conv1, source), _Convolution(block.conv2, self._middle)
        self._shortcut, self._shortcut_output = None, source
        if isinstance(block.shortcut, nn.Sequential):
            assert isinstance(block.shortcut[0], nn.Conv2d)
            self._shortcut, self._shortcut_output = _Convolution(block.shortcut[0], source), next(following)
        self.output = next(following)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = self._first(x, self._middle, "relu")
        shortcut = x if self._shortcut is None else self._shortcut(x, self._shortcut_output)
        return self._second.add_to(shortcut, self._shortcut_output, y, self.output)


def _parts(model: CRNN) -> tuple[nn.Conv2d, list[ResidualBlock]]:
    stem, *rest = (layer for layer in model.backbone if isinstance(layer, nn.Conv2d | ResidualBlock))
    assert isinstance(stem, nn.Conv2d)
    return stem, [block for block in rest if isinstance(block, ResidualBlock)]

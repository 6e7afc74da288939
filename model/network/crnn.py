"""CRNN: a residual CNN, a bidirectional LSTM and a linear layer of CTC logits.

After Shi, Bai and Yao, "An End-to-End Trainable Neural Network for Image-based Sequence
Recognition" (TPAMI 2017), with the plain backbone replaced by residual blocks (He et al., CVPR
2016) and the last rows pooled by a learned vertical softmax, a small form of the feature
rearrangement in SVTRv2 (Du et al., ICCV 2025).
"""

import functools

import torch
from torch import nn

from linewise.model.network.config import STRIDES, ModelConfig


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: `(B, C, H, W)` -> `(B, C', H / s, W / s')`."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != (1, 1):
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        nn.init.zeros_(self.norm2.weight)  # each block starts as its shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, C, H, W)` -> `(B, C', H / s, W / s')`."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class VerticalPool(nn.Module):
    """Sums over rows, weighted by a learned softmax: `(B, C, H, W)` -> `(B, C, W)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, C, H, W)` -> `(B, C, W)`."""
        # Rows come last for the softmax and are summed one by one: over an inner dimension, torch's rounding of
        # bfloat16 depends on how it splits the batch among threads, so a result would depend on its batch.
        weights = self.score(x).transpose(2, 3).contiguous().softmax(dim=3).unbind(3)  # H times (B, 1, W)
        products = [row * weight for row, weight in zip(x.unbind(2), weights, strict=True)]
        pooled: torch.Tensor = functools.reduce(torch.add, products)
        return pooled


class CRNN(nn.Module):
    """Normalised images to CTC logits: float `(B, C, H, W)` -> `(B, W / 4, classes)`, class 0 = blank."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [
            nn.Conv2d(config.input_channels, config.stem, 3, 2, 1, bias=False),
            nn.BatchNorm2d(config.stem),
            nn.ReLU(),
        ]
        width = config.stem
        for channels, blocks, stride in zip(config.channels, config.blocks, STRIDES, strict=True):
            for block in range(blocks):
                layers.append(ResidualBlock(width, channels, stride if block == 0 else (1, 1)))
                width = channels
        self.backbone = nn.Sequential(*layers)
        self.pool = VerticalPool(width)
        self.lstm = nn.LSTM(width, config.hidden, config.lstm_layers, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * config.hidden, len(config.alphabet) + 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images `(B, C, H, W)` -> logits `(B, W / 4, classes)`."""
        features = self.backbone(images)  # (B, C, H / 16, W / 4)
        columns = self.pool(features).transpose(1, 2)  # (B, T, C)
        context, _ = self.lstm(columns)  # (B, T, 2 * hidden)
        logits: torch.Tensor = self.head(context)  # (B, T, classes)
        return logits


def multiply_accumulates(model: CRNN, width: int) -> int:
    """Multiply-accumulate operations of one forward pass over an image of the model's height and `width`."""
    total = 0

    def count(module: nn.Module, _: object, output: torch.Tensor | tuple[torch.Tensor, object]) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            assert isinstance(output, torch.Tensor)
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            assert isinstance(output, torch.Tensor)
            total += output[0].numel() * module.in_features
        elif isinstance(module, nn.LSTM):
            steps = output[0].shape[1]
            total += steps * sum(p.numel() for n, p in module.named_parameters() if "weight" in n)

    handles = [
        m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.LSTM)
    ]
    try:
        with torch.inference_mode():
            weight, config = next(model.parameters()), model.config
            size = (1, config.input_channels, config.height, width)
            model.eval()(torch.zeros(size, device=weight.device, dtype=weight.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return total

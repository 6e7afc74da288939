"""The network that finds lines on a page: for every fourth pixel, how probably it lies in the kernel of a line.

After Liao et al., "Real-time Scene Text Detection with Differentiable Binarization" (AAAI 2020). A
kernel is a line shrunk on all sides, so that neighbours stay apart. A second map holds the threshold
at which the kernels' rims fall; training sees the two through a steep sigmoid of their difference,
reading needs the first alone.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from linewise.model.network.checkpoint import CheckpointError, read_checkpoint
from linewise.model.network.crnn import ResidualBlock

MULTIPLE = 32  # of which a page's sides must be multiples, the stride of the coarsest features

# The package `weights` is installed beside the package `model`, and stands beside it in the repository.
DEFAULT_PATH = Path(__file__).resolve().parents[2] / "weights" / "linewise-page.safetensors"


@dataclass(frozen=True)
class DetectorConfig:
    """Shape of the network: `channels` and `blocks` of the stages at stride 4, 8, 16 and 32, `neck` of their sum."""

    stem: int = 16
    channels: tuple[int, ...] = (24, 48, 96, 128)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    neck: int = 32

    def __post_init__(self) -> None:
        if len(self.channels) != 4 or len(self.blocks) != 4:
            raise ValueError("channels and blocks must name four stages")

    def to_json(self) -> str:
        """The configuration as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "DetectorConfig":
        """The configuration that `to_json` wrote.

        Raises:
            ValueError: not JSON, or not the fields of a detector.
        """
        fields: Any = json.loads(text)
        if not isinstance(fields, dict) or fields.keys() != {field.name for field in dataclasses.fields(cls)}:
            raise ValueError("the configuration is not a detector's")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)


class Detector(nn.Module):
    """A residual network with a feature pyramid (Lin et al., 2017) that ends at stride 4."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(
            nn.Conv2d(1, config.stem, 3, 2, 1, bias=False), nn.BatchNorm2d(config.stem), nn.ReLU()
        )
        stages, width = [], config.stem
        for channels, blocks in zip(config.channels, config.blocks, strict=True):
            further = (ResidualBlock(channels, channels, (1, 1)) for _ in range(blocks - 1))
            stages.append(nn.Sequential(ResidualBlock(width, channels, (2, 2)), *further))
            width = channels
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(nn.Conv2d(channels, config.neck, 1) for channels in config.channels)
        self.smooth = nn.Sequential(
            nn.Conv2d(config.neck, config.neck, 3, 1, 1, bias=False), nn.BatchNorm2d(config.neck), nn.ReLU()
        )
        self.head = nn.Conv2d(config.neck, 2, 3, 1, 1)

    def forward(self, pages: torch.Tensor) -> torch.Tensor:
        """Pages `(B, 1, H, W)`, mean 0 and spread 1, sides multiples of 32 -> logits `(B, 2, H / 4, W / 4)`.

        The first channel is the kernel, the second the threshold.
        """
        x = self.stem(pages)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        top = self.laterals[-1](features[-1])
        for lateral, feature in zip(list(self.laterals)[-2::-1], features[-2::-1], strict=True):
            top = lateral(feature) + F.interpolate(top, size=feature.shape[-2:], mode="nearest")
        logits: torch.Tensor = self.head(self.smooth(top))
        return logits


def load_detector(path: str | os.PathLike[str] | None = None) -> tuple[Detector, str]:
    """The detector of a file, by default the shipped one, in evaluation mode and float32, and its revision.

    Raises:
        CheckpointError: missing, damaged, or not a detector's.
    """
    text, tensors, revision = read_checkpoint(path or DEFAULT_PATH)
    try:
        detector = Detector(DetectorConfig.from_json(text))
        detector.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path or DEFAULT_PATH} does not hold a detector of lines") from error
    return detector.eval(), revision

"""Line detector: a map of kernel probabilities, one cell for each 4 x 4 pixels of a page.

After Liao et al., "Real-time Scene Text Detection with Differentiable Binarization" (AAAI 2020). A
kernel is a line shrunk on all sides, so that adjacent lines stay apart. A second map holds the
binarisation threshold at each cell. Training compares the two through a steep sigmoid of their
difference; inference uses the kernels only.
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

SIDE_MULTIPLE_PX = 32  # a page's sides must be multiples of the stride of the coarsest features

# `weights` lies beside `model`, both in the repository and installed.
DEFAULT_PATH = Path(__file__).resolve().parents[2] / "weights" / "linewise-page.safetensors"


@dataclass(frozen=True)
class DetectorConfig:
    """Shape of the network.

    `channels` and `blocks` are those of the four stages, at strides 4, 8, 16 and 32. `stem` and `neck` are
    the channels before the stages and of the feature pyramid.
    """

    stem: int = 16
    channels: tuple[int, ...] = (24, 48, 96, 128)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    neck: int = 32

    def __post_init__(self) -> None:
        if len(self.channels) != 4 or len(self.blocks) != 4:
            raise ValueError("channels and blocks must each have four entries, one for each stage")

    def to_json(self) -> str:
        """Serialise the configuration to one line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "DetectorConfig":
        """Parse a configuration written by `to_json`.

        Raises:
            ValueError: not JSON, or not the fields of a detector's configuration.
        """
        fields: Any = json.loads(text)
        if not isinstance(fields, dict) or fields.keys() != {field.name for field in dataclasses.fields(cls)}:
            raise ValueError("the configuration is not that of a line detector")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)


class Detector(nn.Module):
    """Residual network with a feature pyramid (Lin et al., 2017) whose output has stride 4."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(
            nn.Conv2d(1, config.stem, 3, 2, 1, bias=False), nn.BatchNorm2d(config.stem), nn.ReLU()
        )
        stages, input_channels = [], config.stem
        for channels, blocks in zip(config.channels, config.blocks, strict=True):
            more_blocks = (ResidualBlock(channels, channels, (1, 1)) for _ in range(blocks - 1))
            stages.append(nn.Sequential(ResidualBlock(input_channels, channels, (2, 2)), *more_blocks))
            input_channels = channels
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(nn.Conv2d(channels, config.neck, 1) for channels in config.channels)
        self.smooth = nn.Sequential(
            nn.Conv2d(config.neck, config.neck, 3, 1, 1, bias=False), nn.BatchNorm2d(config.neck), nn.ReLU()
        )
        self.head = nn.Conv2d(config.neck, 2, 3, 1, 1)

    def forward(self, pages: torch.Tensor) -> torch.Tensor:
        """Compute logits `(B, 2, H / 4, W / 4)` of pages `(B, 1, H, W)`.

        Pages are float, of mean 0 and standard deviation 1, with sides that are multiples of 32. The first
        channel of the logits is the kernel, the second the threshold.
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
    """Load a detector, by default the shipped one, in evaluation mode and float32, with its revision.

    Raises:
        CheckpointError: missing, damaged, or not a detector's checkpoint.
    """
    text, tensors, revision = read_checkpoint(path or DEFAULT_PATH)
    try:
        detector = Detector(DetectorConfig.from_json(text))
        detector.load_state_dict(tensors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path or DEFAULT_PATH} is not the checkpoint of a line detector") from error
    return detector.eval(), revision

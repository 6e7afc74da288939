"""Line detector: a map of kernel probabilities, one cell for each 4 x 4 pixels of a page.

After Liao et al., "Real-time Scene Text Detection with Differentiable Binarization" (AAAI 2020). A
kernel is a line shrunk on all sides, so that adjacent lines stay apart. A second map holds the
binarisation threshold at each cell. Training compares the two through a steep sigmoid of their
difference; inference uses the kernels only.
"""

import torch
import torch.nn.functional as F
from torch import nn

from linewise.model.network.config import DetectorConfig
from linewise.model.network.crnn import ResidualBlock


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

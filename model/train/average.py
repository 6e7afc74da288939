"""The weights that are kept: an exponential moving average of those in training."""

import torch
from torch import nn


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, factor: float) -> None:
    """Moves `average` towards `model`, keeping `factor` in [0, 1] of it; whole numbers are taken over."""
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(current[name], 1 - factor)
        else:
            value.copy_(current[name])

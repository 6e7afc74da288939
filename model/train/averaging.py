"""The weights that are kept: an exponential moving average of those in training, and the mean of several runs'."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from linewise.model.network.checkpoint import load_model, save
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, factor: float) -> None:
    """Moves `average` towards `model`, keeping `factor` in [0, 1] of it; whole numbers are taken over."""
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(current[name], 1 - factor)
        else:
            value.copy_(current[name])


def mean(checkpoints: Sequence[Path], out: Path) -> None:
    """Writes the mean of the tensors of checkpoints of one run, resumed and finished again.

    Wortsman et al., "Model soups" (ICML 2022). A network of one input channel counts as one of two that takes
    no note of the second. Temperature and ranges are the new network's own: `linewise calibrate` finds them.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        ValueError: no checkpoints, or networks of different shapes.
    """
    models = [_widened(load_model(path)[0]) for path in checkpoints]
    if not models:
        raise ValueError("the mean of no checkpoints was asked for")
    plain = [replace(model.config, temperature=1.0, ranges=()) for model in models]
    if len(set(plain)) > 1:
        raise ValueError("the checkpoints hold networks of different shapes or alphabets")
    states = [model.state_dict() for model in models]
    result = CRNN(plain[0])
    result.load_state_dict(
        {
            name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
            for name, value in states[0].items()
        }
    )
    save(result, out)


def _widened(model: CRNN) -> CRNN:
    if model.config.input_channels == 2:
        return model
    config: ModelConfig = replace(model.config, input_channels=2)
    state = model.state_dict()
    stem = state["backbone.0.weight"]
    state["backbone.0.weight"] = torch.cat([stem, torch.zeros_like(stem)], dim=1)
    wide = CRNN(config)
    wide.load_state_dict(state)
    return wide

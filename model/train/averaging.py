"""Averages of weights: a moving average within a run, and the mean of checkpoints."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from linewise.model.network.checkpoint import load_model, save
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move `average` towards `model`, keeping the share `decay` in [0, 1] of it; integers are copied."""
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])


def average_checkpoints(checkpoints: Sequence[Path], out: Path) -> None:
    """Write the mean of the tensors of checkpoints that share a training history.

    Wortsman et al., "Model soups" (ICML 2022). A network of one input channel counts as one of two that ignores
    the second. Temperature and ranges are reset: `linewise calibrate` measures them.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        ValueError: no checkpoints, or networks of different shapes.
    """
    models = [_with_two_channels(load_model(path)[0]) for path in checkpoints]
    if not models:
        raise ValueError("the mean of no checkpoints was asked for")
    configs = [replace(model.config, temperature=1.0, ranges=()) for model in models]
    if len(set(configs)) > 1:
        raise ValueError("the checkpoints hold networks of different shapes or alphabets")
    states = [model.state_dict() for model in models]
    result = CRNN(configs[0])
    result.load_state_dict(
        {
            name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
            for name, value in states[0].items()
        }
    )
    save(result, out)


def _with_two_channels(model: CRNN) -> CRNN:
    if model.config.input_channels == 2:
        return model
    config: ModelConfig = replace(model.config, input_channels=2)
    state = model.state_dict()
    stem = state["backbone.0.weight"]
    state["backbone.0.weight"] = torch.cat([stem, torch.zeros_like(stem)], dim=1)
    widened = CRNN(config)
    widened.load_state_dict(state)
    return widened

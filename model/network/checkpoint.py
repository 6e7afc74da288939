"""Checkpoints: one safetensors file with the weights, the configuration and a digest over both."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from linewise.model.network.config import ModelConfig
from linewise.model.network.shapes import Shapes, crnn_shapes

if TYPE_CHECKING:  # reading on a CPU needs no torch
    import torch

    from linewise.model.network.crnn import CRNN

# `weights` is a sibling of `model`, installed and in the repository.
DEFAULT_PATH = Path(__file__).resolve().parents[2] / "weights" / "linewise.safetensors"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used; the message is one line with the reason."""


class Configuration(Protocol):
    """Configuration of a network."""

    def to_json(self) -> str:
        """The configuration as one line of JSON."""


class Configured(Protocol):
    """A network with its configuration."""

    @property
    def config(self) -> Configuration:
        """The configuration."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors by name."""


Config = TypeVar("Config", covariant=True)


@dataclass(frozen=True)
class NetworkWeights(Generic[Config]):
    """Configuration of a network, and its tensors by name as arrays."""

    config: Config
    tensors: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, model: Any) -> NetworkWeights[Any]:
        """Copy the weights of a network of torch."""
        return cls(model.config, {name: _array(tensor).copy() for name, tensor in model.state_dict().items()})


def save(model: Configured, path: str | os.PathLike[str]) -> None:
    """Write a model to one file atomically, floating-point tensors as float16.

    Raises:
        CheckpointError: a weight is not finite or does not fit into float16.
        OSError: the file cannot be written.
    """
    tensors = {name: _stored(tensor) for name, tensor in model.state_dict().items()}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise CheckpointError(f"{name} holds values that are not finite in float16")
    config = model.config.to_json()
    metadata = {"config": config, "sha256": _digest(config, tensors)}
    part = Path(f"{os.fspath(path)}.part")
    try:
        save_file(tensors, part, metadata)
    except SafetensorError as error:  # also for a missing folder or a full disk
        raise OSError(f"{path} cannot be written: {_line(error)}") from error
    part.chmod(0o644)  # safetensors makes it private to its owner, but a service runs as another user
    replace_durably(part, Path(path))


def replace_durably(part: Path, path: Path) -> None:
    """Replace a file by `part`: after a loss of power, `path` is the old file or the new one, and whole.

    Raises:
        OSError: the file cannot be replaced.
    """
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    if os.name == "posix":  # elsewhere, folders cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load_weights(path: str | os.PathLike[str]) -> tuple[NetworkWeights[ModelConfig], str]:
    """Load the weights of a recogniser with their revision, without torch.

    Raises:
        CheckpointError: the file is missing or unreadable, not safetensors, or damaged, its
            configuration is unusable, or its tensors do not fit the configuration.
    """
    text, tensors, revision = read_checkpoint(path)
    try:
        config = ModelConfig.from_json(text)
        shapes = crnn_shapes(config)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{path} has an unusable model configuration: {_line(error)}") from error
    check_shapes(path, tensors, shapes)
    return NetworkWeights(config, tensors), revision


def load_model(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> tuple[CRNN, str]:
    """Load a file's model in evaluation mode, float32, on `device`, with its revision.

    Raises:
        CheckpointError: as `load_weights`.
    """
    from linewise.model.network.crnn import CRNN

    weights, revision = load_weights(path)
    return fill(CRNN(weights.config), weights).to(device).eval(), revision


Module = TypeVar("Module", bound="torch.nn.Module")


def fill(model: Module, weights: NetworkWeights[Any]) -> Module:
    """Copy weights that fit into a network of torch, in its own dtypes."""
    import torch

    model.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in weights.tensors.items()})
    return model


def check_shapes(path: str | os.PathLike[str], tensors: Mapping[str, NDArray[Any]], shapes: Shapes) -> None:
    """Check that a checkpoint holds the tensors of its network and no others.

    Raises:
        CheckpointError: a tensor is missing, needless or of another shape; the message names the first one.
    """
    for name in sorted(shapes.keys() | tensors.keys()):
        held = tensors[name].shape if name in tensors else None
        if held != shapes.get(name):
            raise CheckpointError(
                f"the tensors of {path} do not fit its configuration: {name} is {held}, not {shapes.get(name)}"
            )


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[str, dict[str, NDArray[Any]], str]:
    """Read configuration text, tensors and revision of a file, and verify its digest.

    The revision is `sha256:` and the hash of the file. Any changed bit is detected.

    Raises:
        CheckpointError: the file is missing or unreadable, not safetensors, or damaged.
    """
    path = Path(path)
    try:
        revision = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot open the checkpoint {path}: {error.strerror}") from error
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {_line(error)}") from error
    if "config" not in metadata or "sha256" not in metadata:
        raise CheckpointError(f"{path} is not a Linewise checkpoint: it lacks a configuration or a digest")
    if _digest(metadata["config"], tensors) != metadata["sha256"]:
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256")
    return metadata["config"], tensors, revision


def _array(tensor: Any) -> NDArray[Any]:
    """A tensor of torch, on any device, or an array as an array."""
    if isinstance(tensor, np.ndarray):
        return tensor
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().numpy()
    return array


def _stored(tensor: Any) -> NDArray[Any]:
    array = _array(tensor)
    with np.errstate(over="ignore"):  # infinity is refused by name
        return np.array(array, np.float16 if array.dtype.kind == "f" else array.dtype, order="C")


def _digest(config: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 in hex over the configuration and, in order of names, each tensor's name, type, shape and bytes.

    Types have the names of torch, such as `torch.float16`.
    """
    total = hashlib.sha256(config.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(json.dumps([name, f"torch.{tensor.dtype}", list(tensor.shape)]).encode())
        total.update(tensor.tobytes())
    return total.hexdigest()


def _line(error: Exception) -> str:
    """Message of an error on one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]

"""Checkpoints: complete and verified, or rejected with a message of one line."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from linewise.model import CheckpointError
from linewise.model.network import checkpoint
from linewise.model.network.checkpoint import NetworkWeights, load_model, load_weights, save
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN


@pytest.fixture
def tiny() -> CRNN:
    torch.manual_seed(1)
    config = ModelConfig(alphabet="ab“", stem=4, channels=(4, 4, 4, 4), blocks=(1, 1, 1, 1), hidden=4)
    return CRNN(config)


def test_a_model_comes_back_in_float32_and_evaluation_mode(tmp_path: Path, network: CRNN) -> None:
    save(network.train(), tmp_path / "m.safetensors")
    loaded, _ = load_model(tmp_path / "m.safetensors")
    assert loaded.config == network.config
    assert not loaded.training
    for name, tensor in network.state_dict().items():
        back = loaded.state_dict()[name]
        assert back.dtype == tensor.dtype
        assert torch.allclose(back, tensor, rtol=1e-3, atol=1e-6), name


def test_tensors_are_half_precision_on_disk(tmp_path: Path, network: CRNN) -> None:
    save(network, tmp_path / "m.safetensors")
    parameters = sum(p.numel() for p in network.parameters())
    assert 2 * parameters < (tmp_path / "m.safetensors").stat().st_size < 3 * parameters + 50_000


def test_the_revision_is_the_hash_of_the_file(tmp_path: Path, tiny: CRNN) -> None:
    path = tmp_path / "m.safetensors"
    save(tiny, path)
    assert load_model(path)[1] == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(tmp_path.iterdir()) == [path]


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path, tiny: CRNN) -> None:
    path = tmp_path / "m.safetensors"
    save(tiny, path)
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    places = [*range(0, header, 7), *range(header, len(good), 41), len(good) - 1]
    for number, place in enumerate(places):
        bad = bytearray(good)
        bad[place] ^= 1 << number % 8
        path.write_bytes(bad)
        with pytest.raises(CheckpointError):
            load_model(path)


def test_a_truncated_file_is_refused(tmp_path: Path, tiny: CRNN) -> None:
    path = tmp_path / "m.safetensors"
    save(tiny, path)
    good = path.read_bytes()
    for size in (0, 4, 100, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(CheckpointError, match="not a safetensors file"):
            load_model(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot open .*none\.safetensors"):
        load_model(tmp_path / "none.safetensors")


def test_another_programs_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"weight": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="not a Linewise checkpoint"):
        load_model(tmp_path / "other")


def _forge(path: Path, config: str, tensors: dict[str, NDArray[Any]]) -> None:
    """A file with arbitrary content and a correct digest."""
    save_file(tensors, path, {"config": config, "sha256": checkpoint._digest(config, tensors)})


def test_tensors_that_do_not_fit_the_configuration_are_refused(tmp_path: Path, tiny: CRNN) -> None:
    wider = json.loads(tiny.config.to_json()) | {"hidden": 5}
    tensors = dict(NetworkWeights.of(tiny).tensors)
    _forge(tmp_path / "m", json.dumps(wider), tensors)
    with pytest.raises(CheckpointError, match="do not fit") as caught:
        load_model(tmp_path / "m")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", ["{", '{"height": 31}', '{"new": 1}', '{"hidden": "x"}', '{"hidden": -1}'])
def test_an_unusable_configuration_is_refused(tmp_path: Path, config: str) -> None:
    _forge(tmp_path / "m", config, {"weight": np.zeros(1)})
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "m")


def test_the_digest_and_the_tensors_are_those_of_torch(tmp_path: Path, network: CRNN) -> None:
    save(network, tmp_path / "m")
    with safe_open(tmp_path / "m", framework="pt") as file:
        digest = hashlib.sha256(file.metadata()["config"].encode())
        weights, _ = load_weights(tmp_path / "m")
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
            assert np.array_equal(weights.tensors[name], tensor.numpy())
            assert tensor.dtype in (torch.float16, torch.int64)
        assert file.metadata()["sha256"] == digest.hexdigest()


def test_a_missing_and_a_needless_tensor_are_named(tmp_path: Path, tiny: CRNN) -> None:
    tensors = dict(NetworkWeights.of(tiny).tensors)
    _forge(tmp_path / "more", tiny.config.to_json(), tensors | {"other": np.zeros(1)})
    with pytest.raises(CheckpointError, match=r"do not fit its configuration: other is \(1,\), not None"):
        load_weights(tmp_path / "more")
    del tensors["head.bias"]
    _forge(tmp_path / "less", tiny.config.to_json(), tensors)
    with pytest.raises(CheckpointError, match=r"do not fit its configuration: head\.bias is None, not \(4,\)"):
        load_weights(tmp_path / "less")


def test_weights_that_half_precision_cannot_hold_are_not_saved(tmp_path: Path, tiny: CRNN) -> None:
    with torch.no_grad():
        tiny.head.bias[0] = 1e6
    with pytest.raises(CheckpointError, match=r"head\.bias"):
        save(tiny, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_file_and_folder_are_on_the_disk_around_the_replacement(
    tiny: CRNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.safetensors"
    done: list[int] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        done.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        done.append(-source.stat().st_ino)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    save(tiny, path)
    assert done == [path.stat().st_ino, -path.stat().st_ino, tmp_path.stat().st_ino]

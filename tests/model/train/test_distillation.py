"""Distillation: a teacher's posteriors, kept beside the shards, and a student that learns them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from linewise.model.network.checkpoint import DEFAULT_PATH, save
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.recognition.preprocess import to_tensor
from linewise.model.synth.renderer import Renderer
from linewise.model.synth.sources.fonts import find_faces
from linewise.model.train.data.samples import SoftTargets, TrainingSample, to_training_sample
from linewise.model.train.data.shards import ShardFolder, write_shard
from linewise.model.train.distillation.soft_targets import Teacher, soft_target_loss
from linewise.model.train.recipe import RECIPES
from linewise.model.train.trainer import RunOptions, Trainer, train

TINY = ModelConfig(stem=16, channels=(16, 16, 16, 16), blocks=(1, 1, 1, 1), hidden=16, lstm_layers=1)


def _drawn(count: int) -> list[TrainingSample]:
    faces = find_faces()
    if not faces:
        pytest.skip("no usable typeface is installed")
    renderer = Renderer(faces, 5, easy_until=10**6, kinds={"sign": 1})
    samples = (to_training_sample(ModelConfig(), renderer.sample(index)) for index in range(4 * count))
    return [sample for sample in samples if sample is not None and sample.image.shape[1] <= 128][:count]


def test_the_loss_is_least_for_the_targets_themselves() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 7)
    probabilities, classes = logits.softmax(-1).topk(7)
    own = SoftTargets(classes[0].numpy().astype(np.uint16), probabilities[0].numpy().astype(np.float32))
    entropy = -(logits[0].softmax(-1) * logits[0].log_softmax(-1)).sum()
    same, none = soft_target_loss(logits, [own, None])
    assert same == pytest.approx(float(entropy), rel=1e-5) and none == 0
    assert float(soft_target_loss(logits + 2 * torch.randn(2, 5, 7), [own, None])[0]) > float(same)


def test_posteriors_are_kept_beside_the_shard_and_belong_to_their_teacher(tmp_path: Path) -> None:
    samples = _drawn(12)
    samples[0] = dataclasses.replace(samples[0], text=samples[0].text + "x")  # a text that no teacher reads there
    write_shard(tmp_path / "shard-000000.npz", samples)
    teacher = Teacher(DEFAULT_PATH)
    folder = ShardFolder(tmp_path, on_read=lambda read, path: teacher.attach(read, path.with_suffix(".targets.npz")))
    computed = {sample.text: sample.targets for sample in folder.next()}
    assert sum(targets is not None for targets in computed.values()) >= 6
    assert computed[samples[0].text] is None
    kept = (tmp_path / "shard-000000.targets.npz").read_bytes()
    again = {sample.text: sample.targets for sample in folder.next()}
    for text, targets in computed.items():
        if targets is not None:
            other = again[text]
            assert other is not None
            assert (targets.classes == other.classes).all() and (targets.probabilities == other.probabilities).all()
    assert (tmp_path / "shard-000000.targets.npz").read_bytes() == kept
    stranger = CRNN(TINY)
    save(stranger, tmp_path / "other.safetensors")
    Teacher(tmp_path / "other.safetensors").attach(samples, tmp_path / "shard-000000.targets.npz")
    assert (tmp_path / "shard-000000.targets.npz").read_bytes() != kept


def test_a_student_comes_to_agree_with_its_teacher() -> None:
    samples = [sample for sample in _drawn(40) if sample.image.shape[1] == 128][:8]
    teacher = Teacher(DEFAULT_PATH)
    targets = teacher._compute(samples)
    for sample, target in zip(samples, targets, strict=True):
        sample.targets = target
    trainer = Trainer(dataclasses.replace(RECIPES["smoke"], model=TINY, warmup=1), torch.device("cpu"), 0)
    images = to_tensor([sample.image for sample in samples])

    def disagreement() -> float:
        with torch.inference_mode():
            return float(soft_target_loss(trainer.model.eval()(images), [s.targets for s in samples]).mean())

    before = disagreement()
    for _ in range(30):
        trainer.step(samples, 3e-3)
    assert disagreement() < before / 2


def test_a_teacher_of_other_frames_or_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs shards"):
        train(RECIPES["fast"], tmp_path, RunOptions(1, steps=1, device="cpu", teacher=DEFAULT_PATH))
    save(CRNN(dataclasses.replace(TINY, alphabet="ab")), tmp_path / "other.safetensors")
    options = RunOptions(1, shards=tmp_path, steps=1, device="cpu", teacher=tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="another alphabet or other frames"):
        train(RECIPES["fast"], tmp_path, options)

"""The training run: it learns, can be cut and resumed, and says what it does."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from linewise.model.network.checkpoint import load_model, save
from linewise.model.network.crnn import CRNN
from linewise.model.synth.sources.fonts import find_faces
from linewise.model.train.averaging import average_checkpoints
from linewise.model.train.data.augment import augment
from linewise.model.train.data.sample_loader import SampleLoader, open_source
from linewise.model.train.data.samples import TrainingSample
from linewise.model.train.recipe import RECIPES
from linewise.model.train.trainer import RunOptions, Trainer, rate_at, train
from linewise.service.cli import main
from tests.model.conftest import TINY, small_network

SMOKE = RECIPES["smoke"]


@pytest.fixture(scope="module", autouse=True)
def _fonts() -> None:
    try:
        find_faces()
    except RuntimeError as error:
        pytest.skip(str(error))


def _batch() -> list[TrainingSample]:
    faces = [face for face in find_faces() if not face.held_out]
    source = open_source(faces, SMOKE.model, seed=0, workers=0, easy_until=10_000)
    return SampleLoader(source, replay=1000, pool=8).batch(SMOKE.batch_pixels, SMOKE.largest_batch)


def test_smoke_overfits_a_handful_of_samples() -> None:
    run = Trainer(SMOKE, torch.device("cpu"), seed=0)
    batch = _batch()
    losses = [run.step(batch, 3e-3) for _ in range(60)]
    assert sum(losses[-5:]) / 5 < 0.35 * losses[0]


def test_a_cut_run_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    batch = _batch()
    whole = Trainer(SMOKE, torch.device("cpu"), seed=0)
    for _ in range(6):
        whole.step(batch, 1e-3)
    first = Trainer(SMOKE, torch.device("cpu"), seed=0)
    for _ in range(3):
        first.step(batch, 1e-3)
    first.save(tmp_path / "resume.pt")
    second = Trainer(SMOKE, torch.device("cpu"), seed=99)
    second.restore(tmp_path / "resume.pt")
    for _ in range(3):
        second.step(batch, 1e-3)
    assert second.position == whole.position
    for name, value in whole.average.state_dict().items():
        assert torch.allclose(value.float(), second.average.state_dict()[name].float(), atol=1e-6), name


def test_a_resume_file_of_another_network_is_refused(tmp_path: Path) -> None:
    Trainer(SMOKE, torch.device("cpu"), seed=0).save(tmp_path / "resume.pt")
    with pytest.raises(ValueError, match="another shape"):
        Trainer(RECIPES["cpu"], torch.device("cpu"), seed=0).restore(tmp_path / "resume.pt")


def test_a_run_leaves_weights_log_curve_and_resume_file(tmp_path: Path) -> None:
    train(SMOKE, tmp_path, RunOptions(1, steps=20))
    model, _ = load_model(tmp_path / "weights.safetensors")
    assert model.config == SMOKE.model
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    assert entries[-1]["step"] == 20
    assert {"loss", "rate", "samples_per_s", "used", "drawn"} <= entries[-1].keys()
    assert (tmp_path / "curve.png").stat().st_size > 5000
    train(SMOKE, tmp_path, RunOptions(1, steps=5, resume=tmp_path / "resume.pt"))
    last = json.loads((tmp_path / "log.jsonl").read_text("utf-8").splitlines()[-1])
    assert last["step"] == 25


def test_the_rate_warms_up_stays_and_falls() -> None:
    recipe = RECIPES["cpu"]
    assert rate_at(recipe, 0, 0.0) < 0.01 * recipe.rate
    assert rate_at(recipe, 5000, 0.4) == recipe.rate
    assert rate_at(recipe, 9000, 0.85) == pytest.approx(0.5 * recipe.rate)
    assert rate_at(recipe, 9999, 1.0) == pytest.approx(0.01 * recipe.rate)


def test_batches_hold_one_width_and_no_sample_is_used_too_often() -> None:
    faces = [face for face in find_faces() if not face.held_out]
    loader = SampleLoader(open_source(faces, SMOKE.model, seed=0, workers=0), replay=2, pool=40)
    for _ in range(12):
        batch = loader.batch(2048, 16)
        assert len({drawn.image.shape for drawn in batch}) == 1
        assert len(batch) * batch[0].image.shape[1] <= 2048 or len(batch) == 1
        assert all(drawn.uses < 2 for drawn in batch)
        loader.give_back(batch)


def test_what_was_read_surely_is_not_drawn_from_again() -> None:
    faces = [face for face in find_faces() if not face.held_out]
    loader = SampleLoader(open_source(faces, SMOKE.model, seed=0, workers=0), replay=1000, pool=12)
    first = loader.batch(2048, 16)
    for drawn in first:
        drawn.loss = 0.01 if drawn is first[0] else 2.0
    loader.give_back(first)
    later: list[TrainingSample] = []
    for _ in range(300):  # a shelf of few narrow pictures is seldom chosen
        batch = loader.batch(2048, 16)
        for drawn in batch:
            drawn.loss = 2.0
        loader.give_back(batch)
        later += batch
    assert all(drawn is not first[0] for drawn in later)
    assert all(any(drawn is other for other in later) for drawn in first[1:])


def test_renderer_processes_deliver_samples_that_ctc_can_align() -> None:
    faces = [face for face in find_faces() if not face.held_out][:40]
    loader = SampleLoader(open_source(faces, SMOKE.model, seed=0, workers=1), pool=64)
    try:
        batch = loader.batch(2048, 16)
    finally:
        loader.close()
    assert loader.drawn >= len(batch) > 0
    assert all(drawn.image.shape[1] // 4 >= len(drawn.text) for drawn in batch)


def test_augmentation_keeps_shape_and_scale() -> None:
    images = torch.randn(32, 2, 32, 64)
    changed = augment(images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert 0.6 < float(changed.std()) < 1.5
    assert not torch.equal(changed, images)


def test_the_mean_of_checkpoints_is_that_of_their_tensors(tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(2)]
    networks = [small_network(seed) for seed in range(2)]
    networks[0].config = dataclasses.replace(networks[0].config, temperature=0.8)
    for network, path in zip(networks, paths, strict=True):
        save(network, path)
    average_checkpoints(paths, tmp_path / "mean.safetensors")
    found, _ = load_model(tmp_path / "mean.safetensors")
    assert found.config == networks[1].config
    for name, value in found.state_dict().items():
        first, second = (network.state_dict()[name] for network in networks)
        assert torch.allclose(value.float(), (first.float() + second.float()) / 2, atol=2e-3), name


def test_a_network_of_grey_pictures_takes_no_note_of_a_second_channel(tmp_path: Path) -> None:
    grey = small_network(0, dataclasses.replace(TINY, input_channels=1))
    save(grey, tmp_path / "grey.safetensors")
    average_checkpoints([tmp_path / "grey.safetensors"], tmp_path / "mean.safetensors")
    found, _ = load_model(tmp_path / "mean.safetensors")
    images = torch.randn(2, 2, 32, 64)
    with torch.inference_mode():
        assert torch.allclose(found(images), grey(images[:, :1]), atol=5e-2)


def test_networks_of_different_shapes_have_no_mean(tmp_path: Path) -> None:
    save(small_network(0), tmp_path / "a.safetensors")
    save(small_network(0, dataclasses.replace(TINY, hidden=16)), tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="different shapes"):
        average_checkpoints([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], tmp_path / "mean.safetensors")
    with pytest.raises(ValueError, match="no checkpoints"):
        average_checkpoints([], tmp_path / "mean.safetensors")
    result = CliRunner().invoke(
        main.app, ["average", *(str(tmp_path / f"{name}.safetensors") for name in "ab"), "--out", str(tmp_path / "c")]
    )
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "different shapes" in result.stderr


def test_a_run_does_not_start_from_weights_whose_classes_are_other_characters(tmp_path: Path) -> None:
    alphabet = SMOKE.model.alphabet
    permuted = dataclasses.replace(SMOKE.model, alphabet=alphabet[1] + alphabet[0] + alphabet[2:])
    save(CRNN(permuted), tmp_path / "permuted.safetensors")
    save(CRNN(SMOKE.model), tmp_path / "same.safetensors")
    run = Trainer(SMOKE, torch.device("cpu"), seed=0)
    run.start_from(tmp_path / "same.safetensors")
    with pytest.raises(ValueError, match="another alphabet, or order of it"):
        run.start_from(tmp_path / "permuted.safetensors")

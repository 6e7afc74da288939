"""Windows of rendered pages, the detector's loss, and a few steps of training."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from linewise.model.evaluation.pages import count_matches
from linewise.model.network.config import DetectorConfig
from linewise.model.network.detector import Detector
from linewise.model.page.detector import load_detector
from linewise.model.page.geometry import Quad
from linewise.model.page.postprocess import find_lines
from linewise.model.synth.pages.page_renderer import PageRenderer, PageSample
from linewise.model.synth.sources.fonts import find_faces
from linewise.model.train.detection.db_loss import db_loss
from linewise.model.train.detection.db_targets import DbTargets, db_targets
from linewise.model.train.detection.windows import WINDOW_SIZE_PX, cut_window
from linewise.model.train.detector_trainer import DetectorRecipe, train_detector

TINY = DetectorConfig(stem=16, channels=(16, 16, 16, 16), blocks=(1, 1, 1, 1), neck=16)


@pytest.fixture(scope="module")
def letter() -> PageSample:
    faces = find_faces()
    if not faces:
        pytest.skip("no fonts on this machine")
    return PageRenderer(faces, seed=5, kinds={"letter": 1}).sample(1)


def test_a_window_has_its_targets_where_its_lines_are(letter: PageSample) -> None:
    found = 0
    for number in range(8):
        piece = cut_window(Random(number), letter)
        assert piece.image.shape == (WINDOW_SIZE_PX, WINDOW_SIZE_PX)
        assert piece.targets.kernel.shape == (WINDOW_SIZE_PX // 4, WINDOW_SIZE_PX // 4)
        lines = find_lines(np.asarray(piece.targets.kernel / 255, np.float32))
        found += len(lines)
        inked = [
            np.ptp(piece.image[_inside(line.quad)].astype(int))
            for line in lines
            if piece.image[_inside(line.quad)].size
        ]
        assert not inked or np.median(inked) > 15
    assert found > 10


def _inside(quad: Quad) -> tuple[slice, slice]:
    (left, top), (right, bottom) = (np.clip(side, 0, WINDOW_SIZE_PX).astype(int) for side in (quad.min(0), quad.max(0)))
    return slice(top, bottom), slice(left, right)


def flat(maps: DbTargets, sureness: float) -> torch.Tensor:
    """The logits of a detector that says what the targets say."""
    kernel = torch.from_numpy(maps.kernel).float() / 255
    border = (torch.from_numpy(maps.border).float() / 255).clamp(0.01, 0.99)
    return torch.stack([sureness * (2 * kernel - 1), torch.logit(border)])[None]


def test_the_loss_is_least_for_what_is_wanted() -> None:
    quad = np.array([[40, 40], [240, 40], [240, 70], [40, 70]], np.float32)
    maps = db_targets([quad], 160, 320)
    right = flat(maps, 8.0)
    wrong = right.clone()
    wrong[:, 0] *= -1
    nothing = torch.cat([torch.full_like(right[:, :1], -8.0), right[:, 1:]], 1)
    best, missed, opposite = (float(db_loss(logits, [maps])) for logits in (right, nothing, wrong))
    assert best < 0.3 < missed < opposite


def test_what_does_not_count_costs_nothing() -> None:
    small = np.array([[40, 40], [140, 40], [140, 45], [40, 45]], np.float32)
    maps = db_targets([small], 160, 320)
    silent = torch.cat([torch.full((1, 1, 40, 80), -8.0), torch.zeros(1, 1, 40, 80)], 1)
    spoken = silent.clone()
    spoken[0, 0, 10:12, 10:35] = 8.0
    assert float(db_loss(spoken, [maps])) == pytest.approx(float(db_loss(silent, [maps])), abs=0.02)


def test_a_page_without_lines_has_a_loss_too() -> None:
    maps = db_targets([], 160, 320)
    assert float(db_loss(torch.zeros(1, 2, 40, 80), [maps])) > float(db_loss(flat(maps, 8.0), [maps]))


def test_one_page_is_learnt_by_heart(letter: PageSample) -> None:
    torch.manual_seed(0)
    piece = cut_window(Random(1), letter)
    network = Detector(TINY)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    image = torch.from_numpy(piece.image[None, None]).float()
    image = (image - image.mean()) / image.std()
    for _ in range(60):
        optimiser.zero_grad()
        value = db_loss(network(image), [piece.targets])
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        probability = np.asarray(network(image)[0, 0].sigmoid().numpy(), np.float32)
    wanted = [line.quad for line in find_lines(np.asarray(piece.targets.kernel / 255, np.float32))]
    assert count_matches(wanted, [line.quad for line in find_lines(probability)]) >= 0.6 * len(wanted) > 0


def test_training_leaves_a_detector_and_a_log(tmp_path: Path) -> None:
    if not find_faces():
        pytest.skip("no fonts on this machine")
    recipe = DetectorRecipe(model=TINY, batch=2, pool=4, windows=2)
    trained = train_detector(recipe, 10, tmp_path, steps=3)
    loaded, _ = load_detector(tmp_path / "weights.safetensors")
    assert loaded.config == TINY
    assert (tmp_path / "log.jsonl").read_text().startswith('{"step": 0')
    with torch.no_grad():
        page = torch.randn(1, 1, 64, 64)
        assert torch.allclose(loaded(page), trained.cpu()(page), atol=0.05)

"""From an array of any size to the network's input."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch

from linewise.model.network.config import ModelConfig
from linewise.model.recognition import preprocess

CONFIG = ModelConfig(stretch=1.0)


@pytest.mark.parametrize("size", [(1, 1), (32, 100), (3, 9), (1000, 40), (61, 417), (10, 5000)])
def test_every_image_gets_the_height_and_the_width_of_its_ladder_step(size: tuple[int, int]) -> None:
    scaled = preprocess.scale(CONFIG, np.zeros(size, np.uint8))
    assert scaled.shape == (CONFIG.height, preprocess.scaled_width(CONFIG, *size), 2)
    assert scaled.dtype == np.uint8


def test_widths_come_from_the_ladder_until_a_line_is_over_long() -> None:
    assert preprocess.scaled_width(CONFIG, 32, 100) == 112
    assert preprocess.scaled_width(CONFIG, 64, 200) == 112
    assert preprocess.scaled_width(CONFIG, 32, 5001) == 5004
    assert {preprocess.scaled_width(CONFIG, 32, w) for w in range(1, 2049)} == set(CONFIG.widths)


def test_an_image_is_stretched_as_the_configuration_says() -> None:
    wider = ModelConfig(stretch=1.25)
    assert preprocess.natural_width(wider, 64, 200) == 125
    assert preprocess.scaled_width(wider, 32, 100) == preprocess.scaled_width(CONFIG, 32, 125) == 128
    image = np.full((32, 12), 200, np.uint8)
    image[:, 4:8] = 0
    dark = np.flatnonzero((preprocess.scale(wider, image)[..., 0] < 100).all(axis=0))
    assert len(dark) == 5 and abs(dark.mean() - 15.5) <= 1


def test_a_narrow_image_is_continued_and_not_stretched() -> None:
    image = np.full((32, 12), 200, np.uint8)
    image[:, 4:8] = 0
    scaled = preprocess.scale(CONFIG, image)[..., 0]
    assert scaled.shape == (32, 32)
    dark = np.flatnonzero((scaled < 100).all(axis=0))
    assert len(dark) == 4 and abs(dark.mean() - 15.5) <= 1
    assert (scaled[:, :8] == 200).all() and (scaled[:, -8:] == 200).all()


def test_colours_of_one_lightness_are_told_apart() -> None:
    red, green = (200, 60, 60), (60, 131, 60)  # both of luminance 101.8 or nearly
    picture = np.full((32, 96, 3), green, np.uint8)
    picture[8:24, 30:60] = red
    assert abs(np.ptp(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(int))) <= 1
    assert np.ptp(preprocess.grey(picture).astype(int)) > 60


def test_light_stays_light_whatever_the_colours() -> None:
    for dark, light in (((20, 20, 120), (250, 250, 60)), ((120, 0, 0), (255, 230, 230)), ((0, 0, 0), (255, 255, 255))):
        picture = np.full((32, 96, 3), light, np.uint8)
        picture[8:24, 30:60] = dark
        grey = preprocess.grey(picture).astype(int)
        assert grey[0, 0] - grey[16, 40] > 80


def test_sides_of_another_colour_are_told_from_the_letters_that_they_belong_to() -> None:
    wall, letter, side = (235, 230, 225), (200, 20, 30), (45, 45, 50)
    picture = np.full((32, 96, 3), wall, np.uint8)
    picture[8:24, 30:60] = letter
    picture[10:26, 60:66] = side
    components = preprocess.principal(picture, 2).astype(int)
    for one, other in itertools.combinations((components[0, 0], components[16, 40], components[16, 62]), 2):
        assert np.abs(one - other).max() > 60
    grey = components[..., 0]
    assert min(abs(grey[0, 0] - grey[16, 40]), abs(grey[16, 40] - grey[16, 62])) < 30  # which one channel would not do


def test_a_picture_without_colours_has_nothing_in_the_second_channel() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (32, 64), dtype=np.uint8)
    for picture in (grey, grey[..., None], np.stack([grey] * 3, axis=2)):
        components = preprocess.principal(picture, 2)
        assert np.array_equal(components[..., 0], grey) and not components[..., 1].any()
    one_colour = np.full((32, 64, 3), (200, 30, 30), np.uint8)
    assert not preprocess.principal(one_colour, 2)[..., 1].any()


def test_the_second_channel_is_raised_to_the_first_but_its_noise_is_not() -> None:
    draw = np.random.default_rng(0)
    first = draw.integers(0, 2, (32, 64)) * 200
    for deviation, expected in ((60, 1.0), (30, 1.0), (4, 4 / 25)):
        second = 100 + deviation * draw.choice((-1, 1), (32, 64))
        (tensor,) = preprocess.to_tensor([np.stack([first, second], axis=2).astype(np.uint8)])
        assert tensor.shape == (2, 32, 64)
        assert np.allclose(tensor.mean(dim=(1, 2)), 0, atol=1e-4)
        assert np.allclose(tensor.std(dim=(1, 2), correction=0), (1.0, expected), rtol=0.05)


def test_colour_and_grey_forms_of_one_picture_look_alike() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (32, 64), dtype=np.uint8)
    assert np.array_equal(preprocess.grey(np.stack([grey] * 3, axis=2)), grey)
    assert np.array_equal(preprocess.grey(grey[:, :, None]), grey)


def test_red_is_the_first_channel() -> None:
    red, blue = np.zeros((2, 4, 4, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    assert preprocess.grey(red)[0, 0] > 2 * preprocess.grey(blue)[0, 0]


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (5,), (5, 5, 4), (5, 5, 2), (1, 5, 5, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        preprocess.scale(CONFIG, np.zeros(shape, np.uint8))


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        preprocess.grey(np.zeros((5, 5)).astype(np.float32))


def test_faded_and_full_contrast_look_alike_to_the_network() -> None:
    image = np.random.default_rng(0).integers(0, 2, (32, 64)).astype(np.uint8)
    strong, faded = preprocess.to_tensor([image * 255, 100 + image * 30])
    assert torch.allclose(strong, faded, atol=1e-4)
    assert abs(float(strong.mean())) < 1e-5 and abs(float(strong.std(correction=0)) - 1) < 1e-4


def test_noise_on_a_flat_ground_is_not_blown_up() -> None:
    image = 128 + np.random.default_rng(0).integers(0, 2, (32, 64)).astype(np.uint8)
    assert preprocess.to_tensor([image]).abs().max() < 0.2
    assert (preprocess.to_tensor([np.zeros((32, 64), np.uint8)]) == 0).all()


def test_the_width_of_an_extreme_aspect_ratio_is_bounded() -> None:
    widest = preprocess.MAX_ASPECT_RATIO * CONFIG.height
    assert preprocess.scaled_width(CONFIG, 1, 20000) == widest
    assert preprocess.scaled_width(CONFIG, 10, 9990) == 32 * 999
    assert preprocess.scale(CONFIG, np.zeros((1, 20000), np.uint8)).shape == (CONFIG.height, widest, 2)

"""Backgrounds: the luminance of colours."""

from random import Random

import pytest

from linewise.model.synth import background


@pytest.mark.parametrize("level", [0.0, 128.0, 254.99, 255.0, 255.01, 300.0])
def test_a_colour_has_the_luminance_of_its_level_and_is_never_lighter_than_white(level: float) -> None:
    for seed in range(200):
        colour = background.random_colour(Random(seed), level)
        assert colour.min() >= 0 and colour.max() <= 255.01
        assert colour @ background.LUMINANCE_WEIGHTS == pytest.approx(min(level, 255), abs=0.6)

"""Model configuration, which is stored with the weights."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from linewise.model.network.config import WIDTH_LADDER, ModelConfig


def test_a_configuration_survives_json() -> None:
    config = ModelConfig(
        alphabet="aé“",
        height=40,
        widths=(32, 64),
        hidden=7,
        temperature=1.25,
        stretch=1.1,
        ranges=((-0.5, 1.0), (0.0, 2.5)),
    )
    assert ModelConfig.from_json(config.to_json()) == config
    assert "\n" not in config.to_json()


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 30},
        {"channels": (8, 8)},
        {"blocks": (1, 1, 1)},
        {"widths": (64, 32)},
        {"widths": (32, 32)},
        {"widths": (32, 50)},
        {"input_channels": 3},
        {"temperature": 0.0},
        {"stretch": 0.0},
        {"ranges": ((0.0, 0.0),)},
        {"ranges": ((1.0, 2.0),)},
        {"ranges": ((0.0, float("inf")),)},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        ModelConfig(**wrong)


def test_a_configuration_that_does_not_say_is_of_grey_pictures() -> None:
    fields = json.loads(ModelConfig().to_json())
    del fields["input_channels"]
    assert ModelConfig.from_json(json.dumps(fields)) == ModelConfig(input_channels=1)


def test_an_unknown_field_is_refused() -> None:
    fields = json.loads(ModelConfig().to_json()) | {"dropout": 0.1}
    with pytest.raises(ValueError, match="does not know"):
        ModelConfig.from_json(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|does not know"):
        ModelConfig.from_json(text)


def test_the_ladder_never_widens_an_image_by_much() -> None:
    assert all(upper / lower <= 1.5 for lower, upper in itertools.pairwise(WIDTH_LADDER))

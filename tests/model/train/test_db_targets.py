"""Target maps of the detector."""

from __future__ import annotations

from linewise.model.train.detection.db_targets import db_targets
from tests.model.page.conftest import rectangle


def test_a_line_too_small_to_be_read_counts_neither_way() -> None:
    maps = db_targets([rectangle((100, 100), 80, 5)], 200, 200)
    assert maps.kernel.max() == 0
    assert maps.counts[25, 25] == 0 and maps.counts[0, 0] == 255


def test_the_threshold_is_highest_on_the_rim() -> None:
    maps = db_targets([rectangle((200, 100), 300, 40)], 200, 400)
    rim, far, middle = maps.border[20, 50], maps.border[5, 50], maps.border[25, 50]
    assert rim > 160 and far == 76 and middle < rim
    assert maps.near[20, 50] == 255 and maps.near[5, 50] == 0

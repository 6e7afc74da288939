"""Quadrangles of lines, for the tests of their geometry."""

from __future__ import annotations

import numpy as np

from linewise.model.page.geometry import Quad


def rectangle(centre: tuple[float, float], width: float, height: float, degrees: float = 0.0) -> Quad:
    """A line of this size around its centre, tilted clockwise."""
    angle = np.deg2rad(degrees)
    across, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return np.array([centre + x * width / 2 * across + y * height / 2 * down for x, y in corners], np.float32)

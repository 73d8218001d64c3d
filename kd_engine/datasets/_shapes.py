"""Outlines for generated pictures: ten shapes to tell apart, and clutter that is none of them.

A shape lives in a square from -REACH to REACH, its farthest point at distance 1 from the middle. The table
holds the distance to its outline at the middle of each cell, negative inside, so that one look-up per pixel
draws any shape at any place, size and rotation with smooth edges.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

Path = list[tuple[float, float]] | np.ndarray  # corners in turn, (n, 2)

CELLS = 200
REACH = 1.25

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent", "arrow", "hourglass")
CLUTTER = ("blob", "pebble", "bar", "arc", "corner", "wave", "half", "hook")


@cache
def tables() -> np.ndarray:
    """(shapes + clutter, CELLS, CELLS) float32, rows are y downwards. Not to be written to."""
    axis = ((np.arange(CELLS) + 0.5) / CELLS * 2 - 1) * REACH
    x, y = np.meshgrid(axis.astype(np.float32), axis.astype(np.float32))
    return np.stack([_distance(name, x, y) for name in SHAPES + CLUTTER]).astype(np.float32)


def _distance(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    match name:
        case "circle":
            return _disc(x, y, 0.86)
        case "ring":
            return np.asarray(np.abs(_disc(x, y, 0.74)) - 0.22)
        case "crescent":
            return _polygon(x, y, _crescent())
        case "hourglass":
            upper = _polygon(x, y, [(-0.66, -0.75), (0.66, -0.75), (0.0, 0.12)])
            return np.asarray(np.minimum(upper, upper[::-1]))
        case "heart":
            return _polygon(x, y, _heart())
        case "bar":
            return _stroke(x, y, [(-0.9, 0.0), (0.9, 0.0)], 0.1)
        case "arc":
            return _stroke(x, y, _turn(0.85, np.linspace(-0.2, 1.5, 12)), 0.1)
        case "wave":
            across = np.linspace(-0.82, 0.82, 17)
            return _stroke(x, y, np.stack([across, 0.35 * np.sin(across * 5.5)], 1), 0.1)
        case "hook":
            bend = _turn(0.4, np.linspace(0, np.pi, 9)) + np.array([-0.1, 0.4])
            return _stroke(x, y, np.concatenate([[(0.3, -0.85)], bend]), 0.1)
        case _:
            return _polygon(x, y, _outline(name))


def _outline(name: str) -> Path:
    turn = 2 * np.pi * np.arange(48) / 48
    outlines: dict[str, Path] = {
        "square": [(-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)],
        "triangle": _turn(1.0, np.pi * (np.arange(3) * 2 / 3 - 0.5)),
        "star": _turn(np.where(np.arange(10) % 2, 0.42, 1.0), np.pi * (np.arange(10) / 5 - 0.5)),
        "cross": [
            *((-0.27, -0.9), (0.27, -0.9), (0.27, -0.27), (0.9, -0.27), (0.9, 0.27), (0.27, 0.27)),
            *((0.27, 0.9), (-0.27, 0.9), (-0.27, 0.27), (-0.9, 0.27), (-0.9, -0.27), (-0.27, -0.27)),
        ],
        "arrow": [
            *((1.0, 0.0), (0.22, -0.72), (0.22, -0.24), (-0.95, -0.24)),
            *((-0.95, 0.24), (0.22, 0.24), (0.22, 0.72)),
        ],
        "blob": _turn(0.72 + 0.16 * np.sin(2 * turn + 0.5) + 0.05 * np.sin(5 * turn + 2), turn),
        "pebble": np.stack([0.95 * np.cos(turn), 0.55 * np.sin(turn)], 1),
        "corner": [(-0.7, -0.7), (-0.45, -0.7), (-0.45, 0.45), (0.7, 0.45), (0.7, 0.7), (-0.7, 0.7)],
        "half": _turn(0.9, np.linspace(0, np.pi, 17)) - np.array([0, 0.4]),
    }
    return outlines[name]


def _heart() -> np.ndarray:
    t = 2 * np.pi * np.arange(60) / 60
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y - 2.5], 1) / 18.2


def _crescent() -> np.ndarray:
    """A disc of radius 1 less a disc of radius 0.82 whose middle lies 0.48 to its right."""
    meet = (1 - 0.82**2 + 0.48**2) / (2 * 0.48)  # x at which the circles cross
    outer = _turn(1.0, np.linspace(np.arccos(meet), 2 * np.pi - np.arccos(meet), 40))
    edge = np.arccos((meet - 0.48) / 0.82)
    return np.concatenate(
        [outer, _turn(0.82, np.linspace(2 * np.pi - edge, edge, 32)[1:-1]) + np.array([0.48, 0])]
    )


def _turn(radius: float | np.ndarray, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _disc(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    distance: np.ndarray = np.hypot(x, y) - radius
    return distance


def _stroke(x: np.ndarray, y: np.ndarray, path: Path, half: float) -> np.ndarray:
    pairs = pairwise(path)
    distance: np.ndarray = np.sqrt(np.minimum.reduce([_to_segment(x, y, a, b) for a, b in pairs])) - half
    return distance


def _polygon(x: np.ndarray, y: np.ndarray, corners: Path) -> np.ndarray:
    nearest = np.full_like(x, np.inf)
    inside = np.zeros(x.shape, bool)
    for a, b in zip(corners, [*corners[1:], corners[0]], strict=True):
        np.minimum(nearest, _to_segment(x, y, a, b), out=nearest)
        rise = b[1] - a[1]
        if rise != 0:  # even-odd rule: does a ray to the right cross this edge?
            inside ^= ((a[1] > y) != (b[1] > y)) & (x < (b[0] - a[0]) / rise * (y - a[1]) + a[0])
    distance: np.ndarray = np.where(inside, -1, 1) * np.sqrt(nearest)
    return distance


def _to_segment(x: np.ndarray, y: np.ndarray, a: tuple[float, float], b: tuple[float, float]) -> np.ndarray:
    """Squared distance to the segment from a to b."""
    ex, ey = float(b[0] - a[0]), float(b[1] - a[1])
    wx, wy = x - float(a[0]), y - float(a[1])
    along = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
    return (wx - along * ex) ** 2 + (wy - along * ey) ** 2

"""Generated colour pictures: one of ten shapes among clutter on textured grounds, the object's mask known.

Made for looking at attention: whether it lies on the object can be measured. A pure function of the knobs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kd_engine.datasets import HALF, Dataset, Loaded, Progress, Resident, chunks, room, shuffled
from kd_engine.datasets._shapes import CELLS, CLUTTER, REACH, SHAPES, tables
from kd_engine.knobs import Knobs, knob

BATCH = 100  # pictures made at once: few enough to stay in the processor's cache
TEST_SHARE = 6  # every sixth picture is for testing
OBJECT = (0.18, 0.32)  # smallest and largest radius, in widths of the picture
SMALL = (0.05, 0.11)  # of clutter
TILT = np.pi / 6  # the object stands within so much of upright; clutter lies any way round
SHADOW = 1.2  # how far a shape darkens its ground, in radii


class SceneKnobs(Knobs):
    size: int = knob(48, "Height and width of the pictures.", low=32, high=96, unit="px")
    samples: int = knob(
        6000, "How many pictures; a sixth of them is for testing.", low=60, high=60_000, scale="log"
    )
    clutter: int = knob(6, "Most distractors in a picture.", low=0, high=12)
    scene_seed: int = knob(0, "Another seed makes other pictures.", low=0, advanced=True)


class Scenes(Dataset):
    name = "scenes"
    title = "Generated scenes"
    help = (
        "Colour pictures: one of ten shapes among clutter, its place known, so that attention can be scored."
    )
    Knobs = SceneKnobs

    @classmethod
    def load(cls, knobs: SceneKnobs, root: Path, progress: Progress, memory_mb: int) -> Loaded:
        n, size = knobs.samples, knobs.size
        pixels = room((n, 3, size, size), memory_mb)
        masks = np.empty((n, size, size), bool)
        labels = shuffled(n, knobs.scene_seed) % len(SHAPES)
        for rows in chunks(n, BATCH):
            progress("making the scenes", rows.start / n)
            rng = np.random.default_rng((knobs.scene_seed, rows.start))
            pixels[rows], masks[rows] = make(labels[rows], size, knobs.clutter, rng)
        train, test = slice(n // TEST_SHARE, n), slice(n // TEST_SHARE)
        parts = (Resident(pixels[part], labels[part], masks[part]) for part in (train, test))
        return Loaded(next(parts), next(parts), SHAPES, *HALF)


def make(
    labels: np.ndarray, size: int, clutter: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 3, size, size) uint8 of the given shapes, and their masks (N, size, size) bool."""
    n = len(labels)
    near, far, object_colour = _palettes(n, rng)
    canvas = _ground(near, far, size, rng)
    for k in range(clutter):
        there = np.flatnonzero(rng.random(n) < (1.0 if k < clutter // 2 else 0.5))
        what = len(SHAPES) + rng.integers(len(CLUTTER), size=len(there))
        _draw(canvas, there, what, SMALL, np.pi, _clutter_colour(object_colour[there], rng), rng)
    cover = _draw(canvas, np.arange(n), labels, OBJECT, TILT, object_colour, rng)
    canvas += rng.normal(0, 0.02, canvas.shape[:3]).astype(np.float32)[..., None]  # grain, as of a camera
    np.clip(canvas, 0, 1, out=canvas)
    return (canvas * 255 + 0.5).astype(np.uint8).transpose(0, 3, 1, 2), cover > 0.5


def _palettes(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two colours of the ground and one of the object, (n, 3) each; the object stands out from its ground."""
    hue, light = rng.random(n), rng.uniform(0.25, 0.8, n)
    near = _colour(hue, rng.uniform(0.1, 0.5, n), light)
    far = _colour(
        hue + rng.uniform(-0.15, 0.15, n), rng.uniform(0.1, 0.5, n), light + rng.uniform(-0.2, 0.2, n)
    )
    brightness = np.where(light > 0.55, rng.uniform(0.1, 0.55, n), rng.uniform(0.6, 1.0, n))
    other = _colour(hue + rng.uniform(0.2, 0.8, n), rng.uniform(0.5, 1.0, n), np.clip(brightness, 0.3, 1))
    return near, far, other


def _clutter_colour(beside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Any colour; half the time near that of the object, so that colour alone does not give it away."""
    free = _colour(
        rng.random(len(beside)), rng.uniform(0.2, 1.0, len(beside)), rng.uniform(0.25, 1.0, len(beside))
    )
    alike = np.clip(beside + rng.normal(0, 0.06, beside.shape), 0, 1)
    return np.where(rng.random((len(beside), 1)) < 0.5, alike, free).astype(np.float32)


def _colour(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(n, 3) RGB in 0 to 1 from hue (in turns), saturation and value."""
    wheel = (np.asarray(hue)[:, None] * 6 + np.array([5, 3, 1])) % 6
    ramp = np.clip(np.minimum(wheel, 4 - wheel), 0, 1)
    value = np.clip(value, 0, 1)[:, None]
    drawn: np.ndarray = (value * (1 - saturation[:, None] * ramp)).astype(np.float32)
    return drawn


def _ground(near: np.ndarray, far: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """(n, size, size, 3) float32: clouds of two colours, with stripes, checks or neither."""
    n = len(near)
    blend = sum(weight * _clouds(n, cells, size, rng) for cells, weight in ((3, 0.6), (7, 0.3), (15, 0.15)))
    blend = blend + _pattern(n, size, rng)
    blend = np.clip(blend, 0, 1)[..., None]
    canvas = near[:, None, None] + (far - near)[:, None, None] * blend
    drawn: np.ndarray = (
        canvas * (1 + 0.25 * (_clouds(n, 2, size, rng) - 0.5))[..., None]
    )  # light falls unevenly
    return drawn


def _clouds(n: int, cells: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """(n, size, size) float32 in 0 to 1: random values on a coarse grid, smoothly between."""
    place = np.linspace(0, cells - 1, size, dtype=np.float32)
    weights = np.maximum(1 - np.abs(place[:, None] - np.arange(cells, dtype=np.float32)), 0)
    weights = weights * weights * (3 - 2 * weights)
    drawn: np.ndarray = weights @ rng.random((n, cells, cells), np.float32) @ weights.T
    return drawn


def _pattern(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """(n, size, size) float32 around 0: stripes in a third of the pictures, checks in a third."""
    kind, strength = rng.integers(3, size=n), rng.uniform(0.1, 0.35, n)
    angle, pitch = rng.uniform(0, np.pi, n), rng.uniform(0.08, 0.2, n)
    one = np.flatnonzero(kind > 0)
    two = np.flatnonzero(kind == 2)
    pattern = np.zeros((n, size, size), np.float32)
    pattern[one] = _waves(angle[one], pitch[one], size, rng)
    pattern[two] *= _waves(angle[two] + np.pi / 2, pitch[two], size, rng)
    return pattern * strength.astype(np.float32)[:, None, None]


def _waves(angle: np.ndarray, pitch: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """(n, size, size) float32: stripes with soft edges, `pitch` in widths of the picture."""
    axis = np.arange(size) / size
    across = (2 * np.pi / pitch * np.cos(angle))[:, None] * axis
    down = (2 * np.pi / pitch * np.sin(angle))[:, None] * axis + rng.uniform(0, 2 * np.pi, (len(angle), 1))
    phase = down.astype(np.float32)[:, :, None] + across.astype(np.float32)[:, None, :]
    drawn: np.ndarray = np.clip(2 * np.sin(phase), -1, 1)
    return drawn


def _draw(
    canvas: np.ndarray,
    there: np.ndarray,
    what: np.ndarray,
    radii: tuple[float, float],
    tilt: float,
    colour: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a shape into each of the pictures `there`; its coverage of every pixel, (n, size, size) in 0 to 1.

    Only a patch around the shape is touched; it is looked up in the table of distances (see _shapes).
    """
    n, size = len(there), canvas.shape[1]
    radius = rng.uniform(*radii, n) * size
    patch = min(size, 2 * int(np.ceil(radii[1] * size * SHADOW)) + 2)
    angle, middle = rng.uniform(-tilt, tilt, n), 1 + radius + rng.random((2, n)) * (size - 2 - 2 * radius)
    corner = np.clip(np.round(middle - patch / 2), 0, size - patch).astype(np.int64)
    rows, columns = corner[..., None] + np.arange(patch)
    y, x = (((corner - middle + 0.5)[..., None] + np.arange(patch)) / radius[:, None]).astype(np.float32)

    distance = _look_up(what, x, y, angle.astype(np.float32)) * radius.astype(np.float32)[:, None, None]
    cover = np.clip(0.5 - distance, 0, 1)
    reach = (SHADOW - 1) * radius.astype(np.float32)[:, None, None]
    dark = 1 - 0.35 * np.clip(1 - distance / reach, 0, 1)
    shade = 1 - 0.16 * y[:, :, None] - 0.12 * x[:, None, :]  # lit from the upper left

    where = (there[:, None, None], rows[:, :, None], columns[:, None, :])
    ground = canvas[where] * dark[..., None]
    canvas[where] = ground + cover[..., None] * (colour[:, None, None] * shade[..., None] - ground)
    whole = np.zeros((n, size, size), np.float32)
    whole[(np.arange(n)[:, None, None], *where[1:])] = cover
    return whole


def _look_up(what: np.ndarray, x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Distances (n, rows, columns) to the outlines of `what`, turned by `angle`; all lengths in radii."""
    scale = np.float32(CELLS / (2 * REACH))
    cos, sin = np.cos(angle)[:, None] * scale, np.sin(angle)[:, None] * scale
    half = np.float32(CELLS / 2)
    u = (cos * x)[:, None, :] + (sin * y + half)[:, :, None]
    v = (-sin * x)[:, None, :] + (cos * y + half)[:, :, None]
    for cell in (u, v):
        np.clip(cell, 0, CELLS - 1, out=cell)
    flat = (what[:, None, None] * CELLS + v.astype(np.int32)) * CELLS + u.astype(np.int32)
    drawn: np.ndarray = tables().ravel()[flat]
    return drawn

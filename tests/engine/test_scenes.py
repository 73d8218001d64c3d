"""Generated scenes: pure, balanced, and with masks that tell where the object is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kd_engine.datasets import Loaded
from kd_engine.datasets._shapes import CELLS, CLUTTER, REACH, SHAPES, tables
from kd_engine.datasets.scenes import OBJECT, Scenes


def scenes(**options: int) -> Loaded:
    return Scenes.load(Scenes.Knobs(**{"samples": 240, **options}), Path("nowhere"), lambda *report: None, 64)


def everything(data: Loaded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, masks and labels of both parts."""
    parts = [(part, np.arange(len(part))) for part in (data.train, data.test)]
    pixels, masks = (
        np.concatenate([getattr(part, name)(all_of_it) for part, all_of_it in parts])
        for name in ("images", "masks")
    )
    return pixels, masks, np.concatenate([part.labels for part, _ in parts])


def test_scenes_are_a_pure_function_of_their_knobs():
    np.random.seed(1)
    one = scenes()
    np.random.seed(2)
    two = scenes()
    assert one.train.fingerprint() == two.train.fingerprint()
    np.testing.assert_array_equal(one.test.object_masks, two.test.object_masks)
    for other in ({"scene_seed": 1}, {"clutter": 5}):
        assert scenes(**other).train.fingerprint() != one.train.fingerprint()


@pytest.mark.parametrize("size", [32, 48, 96])
def test_sizes_classes_and_parts_are_as_asked(size):
    data = scenes(size=size)
    pixels, masks, labels = everything(data)
    assert pixels.shape == (240, 3, size, size)
    assert pixels.dtype == np.uint8
    assert masks.shape == (240, size, size)
    assert (len(data.train), len(data.test)) == (200, 40)
    assert np.bincount(labels).tolist() == [24] * 10
    assert len(data.classes) == 10
    assert len({image.tobytes() for image in pixels}) == 240


def test_every_object_lies_wholly_in_the_picture_at_a_place_of_its_own():
    _, masks, _ = everything(scenes())
    for edge in (masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]):
        assert not edge.any()
    share = masks.mean((1, 2))
    assert share.min() > 0.02
    assert share.max() < np.pi * OBJECT[1] ** 2
    rows = (masks.any(2) * np.arange(48)).max(1)
    assert np.ptp(rows) > 24


def test_the_mask_lies_on_the_object():
    """Without clutter, what differs from a picture's ground most is the object."""
    pixels, masks, _ = everything(scenes(clutter=0))
    scores = []
    for image, mask in zip(pixels.astype(float), masks, strict=True):
        ground = np.median(image[:, ~mask], axis=1)
        odd = np.abs(image - ground[:, None, None]).sum(0)
        scores.append(odd[mask].mean() / odd[~mask].mean())
    assert np.min(scores) > 1
    assert np.median(scores) > 4


def test_shapes_have_the_forms_that_their_names_say():
    """By how much of the circle around the mask's middle is filled, and whether the middle itself is."""
    _, masks, labels = everything(scenes(size=96))
    y, x = np.mgrid[:96, :96]
    filled, holes = np.empty(240), np.empty(240, bool)
    for k, mask in enumerate(masks):
        row, column = y[mask].mean(), x[mask].mean()
        radius = np.hypot(y[mask] - row, x[mask] - column).max() + 0.5
        filled[k] = mask.sum() / (np.pi * radius**2)
        holes[k] = not mask[round(row), round(column)]
    mean = {name: filled[labels == k].mean() for k, name in enumerate(SHAPES)}
    assert mean["circle"] == pytest.approx(1, abs=0.06)
    assert mean["square"] == pytest.approx(2 / np.pi, abs=0.06)
    assert mean["triangle"] == pytest.approx(3 * np.sqrt(3) / 4 / np.pi, abs=0.06)
    assert holes[labels == SHAPES.index("ring")].all()
    for name in ("circle", "square", "triangle", "star", "cross", "heart"):
        assert not holes[labels == SHAPES.index(name)].any()


def test_outlines_are_distances_and_clutter_is_none_of_the_shapes():
    table = tables()
    assert table.shape == (len(SHAPES) + len(CLUTTER), CELLS, CELLS)
    step = 2 * REACH / CELLS
    for axis in (1, 2):
        assert np.abs(np.diff(table, axis=axis)).max() < step * 1.01  # never steeper than a distance can be
    assert (table[:, [0, -1]] > 0).all()
    inside = table < 0
    axis = (np.arange(CELLS) + 0.5) * step - REACH
    assert not inside[:, np.hypot(axis, axis[:, None]) > 1 + step].any()
    for k in range(len(table)):
        for other in range(k):
            both, either = (inside[k] & inside[other]).sum(), (inside[k] | inside[other]).sum()
            assert both / either < 0.9, (k, other)


def test_pictures_beyond_the_budget_lie_in_a_file():
    knobs = Scenes.Knobs(samples=240, size=96)
    here, there = (Scenes.load(knobs, Path("nowhere"), lambda *report: None, budget) for budget in (64, 1))
    assert here.train.in_memory
    assert not there.train.in_memory
    assert here.test.fingerprint() == there.test.fingerprint()


def test_progress_is_told():
    told = []
    Scenes.load(Scenes.Knobs(samples=240), Path("nowhere"), lambda *report: told.append(report), 64)
    assert [fraction for _, fraction in told] == [0, 100 / 240, 200 / 240]

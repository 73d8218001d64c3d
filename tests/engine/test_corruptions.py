"""Spoilt images against scipy, Pillow and the formulas; the same image is always spoilt in the same way."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from kd_engine import corruptions
from kd_engine.corruptions import CORRUPTIONS, Corrupted, corrupted
from kd_engine.data import Subset
from kd_engine.datasets import Resident
from kd_engine.summary import FIGURES


def images(n: int = 6, size: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth ones: a random image of a few pixels, enlarged."""
    small = np.random.default_rng(seed).integers(0, 256, (n, 3, size // 8, size // 8), dtype=np.uint8)
    return small.repeat(8, 2).repeat(8, 3)


NUMBERS = np.arange(6)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_spoilt_and_of_the_same_kind_and_nothing_given_is_changed(name: str) -> None:
    given = images()
    kept = given.copy()
    spoilt = CORRUPTIONS[name](given, NUMBERS)
    assert (spoilt.shape, spoilt.dtype) == (given.shape, np.uint8)
    assert (given == kept).all()
    assert 0.3 < abs(spoilt.astype(int) - given).mean() < 60


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_becomes_of_an_image_depends_on_it_and_its_number_alone(name: str) -> None:
    given = images()
    whole = CORRUPTIONS[name](given, NUMBERS)
    some = np.array([4, 1])
    np.testing.assert_array_equal(CORRUPTIONS[name](given[some], some), whole[some])


def test_noise_has_the_strength_that_it_says_and_differs_between_images_and_channels() -> None:
    grey = np.full((6, 3, 64, 64), 128, np.uint8)
    added = (corruptions.noise(grey, NUMBERS).astype(float) - 128) / 255
    assert added.std() == pytest.approx(corruptions.NOISE, rel=0.02)
    assert added.mean() == pytest.approx(0, abs=2e-3)
    rows = added.reshape(18, -1)
    assert abs(np.corrcoef(rows) - np.eye(18)).max() < 0.1


def test_noise_is_cut_off_where_a_pixel_is_full() -> None:
    white = corruptions.noise(np.full((1, 3, 64, 64), 255, np.uint8), NUMBERS[:1])
    assert 0.45 < (white == 255).mean() < 0.55


@pytest.mark.parametrize("size", [32, 64, 16])
def test_the_blur_is_scipys_and_as_wide_in_proportion_on_larger_images(size: int) -> None:
    given = images(size=size)
    sigma = 0.7 * size / 32
    exact = gaussian_filter(given / 255.0, (0, 0, sigma, sigma), mode="nearest", truncate=4)
    np.testing.assert_allclose(corruptions.blur(given, NUMBERS), exact * 255, atol=0.51)


def test_contrast_is_the_formula_of_the_benchmark() -> None:
    given = images()
    for before, after in zip(given, corruptions.contrast(given, NUMBERS), strict=True):
        x = before.transpose(1, 2, 0) / 255.0
        means = np.mean(x, axis=(0, 1), keepdims=True)
        exact = np.clip((x - means) * 0.4 + means, 0, 1) * 255
        np.testing.assert_allclose(after.transpose(1, 2, 0), exact, atol=0.51)


def test_jpeg_is_pillows_at_the_quality_of_the_benchmark() -> None:
    given = images()
    for before, after in zip(given, corruptions.jpeg(given, NUMBERS), strict=True):
        buffer = BytesIO()
        Image.fromarray(before.transpose(1, 2, 0).copy()).save(buffer, "JPEG", quality=58)
        np.testing.assert_array_equal(after.transpose(1, 2, 0), np.asarray(Image.open(buffer)))


def test_a_part_in_memory_and_one_that_is_read_are_spoilt_alike(tmp_path: Path) -> None:
    pixels = images(5)[:, :1].copy()  # grey
    labels = np.array([3, 1, 0, 2, 4])
    file = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=pixels.shape)
    file[:] = pixels
    chosen = np.array([4, 0, 2])
    at_hand, read = Subset(Resident(pixels, labels), chosen), Subset(Resident(file, labels), chosen)
    for name in CORRUPTIONS:
        one, other = corrupted(at_hand, name), corrupted(read, name)
        assert isinstance(one.part, Resident)
        assert isinstance(other.part, Corrupted)
        np.testing.assert_array_equal(one.images(np.arange(3)), other.images(np.arange(3)))
        np.testing.assert_array_equal(one.labels, labels[chosen])
        np.testing.assert_array_equal(other.labels, labels[chosen])
        alone = CORRUPTIONS[name](pixels[[0]].repeat(3, 1), np.array([0]))
        np.testing.assert_array_equal(one.images(np.array([1])), alone)


def test_every_corruption_has_a_figure_that_people_are_told() -> None:
    told = {name.removeprefix("top1_") for name in FIGURES if name.startswith("top1_")}
    assert told == {*CORRUPTIONS, "corrupted"}

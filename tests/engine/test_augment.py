"""Augmentation against a slow reference, and the purity that a teacher's cache rests on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from kd_engine.augment import augmented, distinct, lots, moves, padding

KINDS = ("flip", "crop", "crop-flip")


def images(n: int, channels: int = 3, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=generator)


def slowly(image: np.ndarray, row: int, column: int, mirror: bool, pad: int) -> np.ndarray:
    """Pad with black, cut out at (row, column), mirror: as RandomCrop and RandomHorizontalFlip do."""
    size = image.shape[-1]
    padded = np.zeros((len(image), size + 2 * pad, size + 2 * pad), image.dtype)
    padded[:, pad : pad + size, pad : pad + size] = image
    cut = padded[:, row : row + size, column : column + size]
    return cut[:, :, ::-1] if mirror else cut


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "size", "pad"), [(3, 32, 4), (1, 28, 4), (3, 48, 6)])
def test_a_batch_equals_a_slow_crop_and_mirror_of_each_image(kind, channels, size, pad):
    batch = images(40, channels, size)
    indices, views = np.arange(40) * 7, np.arange(40) % 13
    rows, columns, mirror = moves(indices, views, 5, kind, size)
    wanted = [
        slowly(image, *move, pad) for image, *move in zip(batch.numpy(), rows, columns, mirror, strict=True)
    ]
    assert padding(size) == pad
    assert len({tuple(move) for move in zip(rows, columns, mirror, strict=True)}) > 1
    np.testing.assert_array_equal(augmented(batch, indices, views, 5, kind).numpy(), np.stack(wanted))


def test_a_view_of_a_sample_does_not_depend_on_the_batch_it_is_in():
    batch, indices, views = images(30), np.arange(30) + 100, np.arange(30) % 16
    whole = augmented(batch, indices, views, 1, "crop-flip")
    order = np.random.default_rng(0).permutation(30)[:11]
    part = augmented(batch[order], indices[order], views[order], 1, "crop-flip")
    assert torch.equal(part, whole[order])


@pytest.mark.parametrize("kind", ["none", *KINDS])
def test_view_0_is_the_image_itself(kind):
    batch = images(20)
    indices = np.arange(20)
    assert torch.equal(augmented(batch, indices, np.zeros(20, np.int64), 9, kind), batch)
    beside_others = augmented(batch, indices, np.arange(20) % 2 * 5, 9, kind)
    assert torch.equal(beside_others[::2], batch[::2])


@pytest.mark.parametrize(("kind", "many"), [("flip", 2), ("crop", 81), ("crop-flip", 162)])
def test_as_many_views_as_there_are_moves_show_each_move_once(kind, many):
    assert distinct(kind, 32) == many
    for sample in (0, 17):
        seen = moves(np.full(many, sample), np.arange(many), 2, kind, 32)
        assert len(set(zip(*(column.tolist() for column in seen), strict=True))) == many


def test_moves_are_uniform_over_samples():
    rows, columns, mirror = moves(np.arange(40_500), np.full(40_500, 3), 0, "crop-flip", 32)
    counts = np.bincount((rows * 9 + columns) * 2 + mirror, minlength=162)
    assert np.sum(counts == 0) == 1  # the unchanged image, which is view 0
    assert chisquare(counts[counts > 0]).pvalue > 0.001


def test_flips_do_not_shift_and_crops_do_not_mirror():
    indices = np.arange(500)
    rows, columns, mirror = moves(indices, indices % 2, 0, "flip", 32)
    assert set(rows) == set(columns) == {4}
    np.testing.assert_array_equal(mirror, indices % 2 == 1)
    rows, columns, mirror = moves(indices, np.full(500, 7), 0, "crop", 32)
    assert not mirror.any()
    assert set(rows) == set(columns) == set(range(9))


def test_another_seed_gives_other_views():
    batch, indices, views = images(20), np.arange(20), np.ones(20, np.int64)
    one, two = (augmented(batch, indices, views, seed, "crop-flip") for seed in (0, 1))
    assert not torch.equal(one, two)


def test_the_images_handed_in_stay_as_they_are():
    batch = images(8)
    before = batch.clone()
    augmented(batch, np.arange(8), np.arange(8), 0, "crop-flip")
    assert torch.equal(batch, before)


def test_lots_follow_the_published_generator():
    """Against SplitMix64's finalizer in Python's own whole numbers, column by column."""

    def mix(x: int) -> int:
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    def slow(*row: int) -> int:
        state = 0
        for number in row:
            state = mix((state + (number + 1) * 0x9E3779B97F4A7C15) % 2**64)
        return state

    drawn = lots(4, np.array([0, 1, 99]), np.array([2, 2, 2**40]))
    assert drawn.tolist() == [slow(4, 0, 2), slow(4, 1, 2), slow(4, 99, 2**40)]
    assert lots(0).tolist() == [0xE220A8397B1DCDAF]  # the first number of SplitMix64 from seed 0

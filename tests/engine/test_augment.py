"""Augmentation against a slow reference, and the purity that a teacher's cache rests on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from kd_engine.augment import AREA, augmented, distinct, erased, lots, moves, padding

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


FILL = torch.tensor([1, 2, 3], dtype=torch.uint8).view(3, 1, 1)
BLANK = torch.full((400, 3, 32, 32), 200, dtype=torch.uint8)


def test_erasing_paints_one_rectangle_of_a_plausible_size_over():
    drawn = erased(BLANK, np.arange(400), np.arange(400) % 7 + 1, 0, 1.0, FILL)
    gone = (drawn == FILL).all(1)
    assert torch.equal(drawn, torch.where(gone[:, None], FILL, BLANK))
    for rows, columns, area in zip(gone.any(2), gone.any(1), gone.sum((1, 2)), strict=True):
        assert area == rows.sum() * columns.sum()  # a full rectangle
        for along in (rows, columns):
            places = torch.nonzero(along).flatten()
            assert int(places[-1] - places[0]) + 1 == len(places)
    shares = gone.float().mean((1, 2)).numpy()
    assert AREA[0] * 0.7 < shares.min() < 0.05
    assert 0.35 < shares.max() < AREA[1] * 1.1
    assert np.mean(shares) == pytest.approx(np.mean(AREA), abs=0.03)
    lost = gone.float().mean(0)
    quarters = [part.mean() for half in lost.chunk(2) for part in half.chunk(2, 1)]
    assert max(quarters) - min(quarters) < 0.06  # anywhere alike
    assert (lost > 0).float().mean() > 0.95


def test_erasing_happens_with_its_probability_and_never_to_view_0():
    views = np.repeat([0, 3], 200)
    lost = (erased(BLANK, np.arange(400), views, 0, 0.25, FILL) != BLANK).any((1, 2, 3)).numpy()
    assert not lost[:200].any()
    assert np.mean(lost[200:]) == pytest.approx(0.25, abs=0.08)


def test_an_erased_view_depends_on_sample_view_and_seed_alone():
    batch, indices, views = images(40), np.arange(40) + 9, np.arange(40) % 16
    whole = erased(batch, indices, views, 1, 0.7, FILL)
    order = np.random.default_rng(0).permutation(40)[:13]
    assert torch.equal(erased(batch[order], indices[order], views[order], 1, 0.7, FILL), whole[order])
    assert not torch.equal(erased(batch, indices, views, 2, 0.7, FILL), whole)
    assert not torch.equal(erased(batch, indices + 1, views, 1, 0.7, FILL), whole)
    assert not torch.equal(erased(batch, indices, views + 1, 1, 0.7, FILL), whole)
    assert torch.equal(batch, images(40))


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

"""Mixup and cutmix against slow references, and the purity that a teacher's cache rests on."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest

from kd_engine.augment import Augmentation
from kd_engine.batches import Batches
from kd_engine.data import Subset, labelled_plan, plan, prepare
from kd_engine.mixing import STEPS, Mixing, shares, soft_targets, windows
from kd_engine.tasks import UNLABELLED, dominant
from tests.engine.test_data import MEAN, STD, OnDemand, loaded, part

KINDS = ("mixup", "cutmix")
N = 60


def mixing(mix: str = "mixup", labelled: np.ndarray | None = None, seed: int = 0) -> Mixing:
    everyone = np.ones(N, bool) if labelled is None else labelled
    return Mixing(Augmentation(mix=mix), np.arange(N) * 3, everyone, 16, seed)


def batches(mix: str, labelled: np.ndarray | None = None, **options: object) -> Batches:
    """Without shifts, so that what was mixed can be told from the pixels."""
    subset = Subset(part((20, 20, 20)), np.arange(N), labelled)
    return Batches(subset, MEAN, STD, augmentation=Augmentation("none", 0.0, mix), classes=3, **options)


def undone(inputs: torch.Tensor) -> np.ndarray:
    """Pixels, 0 to 255, of normalised inputs."""
    return (inputs.numpy() * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))) * 255


INDICES, VIEWS = np.arange(N), np.arange(N) % 9 + 1


def test_mixup_blends_two_images_and_their_labels_in_the_same_shares():
    made = batches("mixup")
    blend = made._mixing.blend(INDICES, VIEWS)
    images = made.subset.images(INDICES).astype(np.float64)
    own = blend.own[:, None, None, None]
    wanted = own * images + (1 - own) * images[blend.partners]
    inputs, target = made(INDICES, VIEWS)
    np.testing.assert_allclose(undone(inputs), np.floor(wanted + 0.5), atol=1e-3)
    labels = np.eye(3)[made.subset.labels]
    np.testing.assert_allclose(target, own[:, 0, 0] * labels + (1 - own[:, 0, 0]) * labels[blend.partners])
    assert (blend.own * STEPS == np.rint(blend.own * STEPS)).all()


def test_cutmix_pastes_a_rectangle_and_labels_by_the_area_that_is_left():
    made = batches("cutmix")
    blend = made._mixing.blend(INDICES, VIEWS)
    images = made.subset.images(INDICES)
    pixels = np.rint(undone(made.inputs(INDICES, VIEWS)))
    target = made.targets(INDICES, VIEWS).numpy()
    labels = np.eye(3)[made.subset.labels]
    covered = []
    for k, (top, bottom, left, right) in enumerate(blend.boxes.T):
        wanted = images[k].copy()
        wanted[:, top:bottom, left:right] = images[blend.partners[k]][:, top:bottom, left:right]
        np.testing.assert_array_equal(pixels[k], wanted)
        share = (bottom - top) * (right - left) / 16**2
        np.testing.assert_allclose(
            target[k], (1 - share) * labels[k] + share * labels[blend.partners[k]], atol=1e-6
        )
        covered.append(share)
    assert min(covered) < 0.1
    assert max(covered) > 0.6


def test_the_box_of_cutmix_is_that_of_its_paper():
    """As in its published code, one by one."""
    rng = np.random.default_rng(0)
    own, middles = rng.random(200), rng.integers(0, 32, (2, 200))
    boxes, left = windows(own, middles, 32)
    for k in range(200):
        cut = int(32 * np.sqrt(1 - own[k]))
        first = np.clip(middles[:, k] - cut // 2, 0, 32)
        last = np.clip(middles[:, k] + cut // 2, 0, 32)
        assert boxes[:, k].tolist() == [first[0], last[0], first[1], last[1]]
        assert left[k] == 1 - np.prod(last - first) / 32**2


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(alpha: float):
    assert kstest(shares(alpha), beta(alpha, alpha).cdf).pvalue > 0.99


@pytest.mark.parametrize("mix", KINDS)
def test_view_0_is_the_image_itself_with_its_own_label(mix: str):
    made, plain = batches(mix), batches("none")
    views = np.where(INDICES % 2, VIEWS, 0)
    inputs, target = made(INDICES, views)
    assert torch.equal(inputs[::2], plain(INDICES)[0][::2])
    assert torch.equal(target[::2], torch.eye(3)[plain(INDICES)[1][::2]])
    assert not torch.equal(inputs[1::2], plain(INDICES)[0][1::2])
    assert torch.equal(made(INDICES)[0], plain(INDICES)[0])
    assert torch.equal(made(INDICES)[1], plain(INDICES)[1])  # no views: plain classes


@pytest.mark.parametrize("mix", KINDS)
def test_a_mixed_view_depends_on_sample_view_and_seed_alone(mix: str):
    data = prepare(loaded(), augment="crop-flip", erase=0.5, mix=mix, views=64)
    made, other = (
        data.batches("train"),
        prepare(loaded(), augment="crop-flip", mix=mix, seed=1).batches("train"),
    )
    indices, views = np.arange(80), np.arange(80) % 64
    inputs, target = made(indices, views)
    order = np.random.default_rng(0).permutation(80)[:17]
    assert torch.equal(made(indices[order], views[order])[0], inputs[order])
    assert torch.equal(made(indices[order], views[order])[1], target[order])
    assert not torch.equal(other.targets(indices, views), target)
    assert not torch.equal(made.targets(indices, views + 1), target)


def test_partners_are_others_drawn_evenly():
    blend = mixing().blend(np.full(11_800, 7), np.arange(11_800))
    counts = np.bincount(blend.partners, minlength=N)
    assert counts[7] == 0
    assert counts[np.arange(N) != 7].min() > 140  # of 200 each
    assert len(set(blend.views.tolist())) > 10_000


def test_labelled_samples_are_mixed_with_labelled_ones_and_lose_no_label():
    labelled = np.zeros(N, bool)
    labelled[[3, 30, 44, 59]] = True
    for mix in KINDS:
        made = batches(mix, labelled)
        target = made.targets(np.repeat(INDICES, 8), np.tile(np.arange(8), N))
        known = (dominant(target) != UNLABELLED).view(N, 8)
        assert known[labelled].all()
        assert not known[~labelled, :1].any()
        sums = target.sum(-1)
        np.testing.assert_allclose(sums[known.flatten()], 1, rtol=1e-6)
        assert not target[~known.flatten()].any()
        (draw,) = labelled_plan(labelled, 1, 8, 0, 0, views=50)
        assert (dominant(made.targets(*draw)) != UNLABELLED).all()
    lonely = np.arange(N) == 5
    assert mixing(labelled=lonely).blend(np.array([5]), np.array([1])).partners.tolist() == [5]
    nobody = mixing(labelled=np.zeros(N, bool)).blend(INDICES, VIEWS)
    assert (nobody.partners != INDICES).all()


def test_a_withheld_label_matters_only_where_it_counts():
    classes, others = np.array([1, -1, 1, -1, 1]), np.array([-1, 2, -1, 2, 1])
    rows = soft_targets(classes, others, np.array([1.0, 0.0, 0.5, 0.5, 0.5]), 3)
    assert rows.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert dominant(rows).tolist() == [1, 2, UNLABELLED, UNLABELLED, 1]


@pytest.mark.parametrize("mix", KINDS)
def test_what_is_read_while_training_is_mixed_the_same(mix: str):
    resident = part((50, 50))
    kind = Augmentation("crop-flip", 0.5, mix)
    eager, streamed = (
        Batches(Subset(one, np.arange(100)), MEAN, STD, augmentation=kind, classes=2)
        for one in (resident, OnDemand(resident))
    )
    draws = plan(100, 16, 0, 0, views=32)
    for one, two in zip(eager.stream(draws), list(streamed.stream(draws)), strict=True):
        assert torch.equal(one.inputs, two.inputs)
        assert torch.equal(one.target, two.target)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kd-data")]


def test_grey_images_are_mixed_and_erased_too():
    data = prepare(loaded(channels=1), augment="crop-flip", erase=1.0, mix="cutmix", views=9)
    inputs, _ = data.batches("train")(np.arange(9), np.arange(9))
    assert inputs.shape == (9, 3, 16, 16)


def test_only_the_training_part_is_mixed():
    data = prepare(loaded(), mix="mixup", views=8)
    for name in ("validation", "test"):
        made = data.batches(name)
        assert torch.equal(made(np.arange(5), np.full(5, 3))[0], made(np.arange(5))[0])
        assert made(np.arange(5), np.full(5, 3))[1].dtype == torch.int64

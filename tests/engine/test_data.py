"""Who is trained on, who keeps a label, in which order and view; and the batches made of them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from kd_engine.augment import Augmentation
from kd_engine.batches import AHEAD, Batches, Draw
from kd_engine.data import (
    Subset,
    epoch_order,
    labelled_order,
    labelled_plan,
    plan,
    prepare,
    view_of,
)
from kd_engine.datasets import HALF, IMAGENET, Loaded, Resident, room, shuffled, stratified
from kd_engine.errors import DataError
from kd_engine.tasks import UNLABELLED

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


class OnDemand:
    """A Part that holds nothing: its images are made when asked for, by whichever thread asks."""

    def __init__(self, resident: Resident) -> None:
        self.resident, self.labels, self.size = resident, resident.labels, resident.size
        self.threads: set[str] = set()

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: np.ndarray) -> np.ndarray:
        self.threads.add(threading.current_thread().name)
        return self.resident.images(indices)

    def masks(self, indices: np.ndarray) -> np.ndarray | None:
        return None

    def fingerprint(self) -> str:
        return "on demand"


def part(sizes: tuple[int, ...], channels: int = 3, size: int = 16, seed: int = 0) -> Resident:
    """Random pixels; `sizes` of each class, mixed."""
    labels = np.repeat(np.arange(len(sizes)), sizes)[shuffled(sum(sizes), 77)]
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (len(labels), channels, size, size), dtype=np.uint8)
    return Resident(pixels, labels, rng.random((len(labels), size, size)) < 0.5)


def loaded(sizes: tuple[int, ...] = (40, 30, 30), **options: int) -> Loaded:
    names = tuple("abcdefgh"[: len(sizes)])
    return Loaded(part(sizes, **options), part((5,) * len(sizes), seed=1), names, MEAN, STD, ("a note",))


def test_the_lots_are_those_of_every_other_machine_and_version():
    assert shuffled(8, 1, 2).tolist() == [5, 6, 3, 2, 1, 0, 4, 7]
    assert stratified(np.array([0, 1, 1, 0, 1, 0, 1, 1]), 4, 5).tolist() == [3, 4, 5, 7]


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array),
    share=st.floats(0, 1.2),
    leave=st.integers(0, 2),
)
def test_a_stratified_choice_keeps_the_shares_of_the_classes(labels, share, leave):
    count = round(share * len(labels))
    chosen = stratified(labels, count, 3, leave=leave)
    assert sorted(set(chosen.tolist())) == chosen.tolist()
    sizes = np.bincount(labels, minlength=5)
    taken = np.bincount(labels[chosen], minlength=5)
    spare = np.maximum(sizes - leave, 0)
    assert (taken <= spare).all()
    assert len(chosen) == min(count, spare.sum()) or (taken == spare)[sizes > 0].any()
    fair = sizes * min(share, 1)
    if leave == 0:
        assert (np.abs(taken - fair) < 1 + 0.5 + 1e-9).all()
        assert len(chosen) == min(count, len(labels))


def test_training_and_validation_share_no_sample_and_the_test_part_is_whole():
    data = prepare(loaded(), validation=0.2)
    together = np.concatenate([data.train.indices, data.validation.indices])
    assert sorted(together.tolist()) == list(range(100))
    assert np.bincount(data.validation.labels).tolist() == [8, 6, 6]
    assert data.test.indices.tolist() == list(range(15))
    assert data.notes == ("a note",)
    assert data.size == 16
    assert data.classes == ("a", "b", "c")


def test_the_same_seed_chooses_the_same_samples_whatever_was_drawn_before():
    options = {"labels_per_class": 4, "validation": 0.1, "subset": 60}
    one = prepare(loaded(), **options, seed=3)
    np.random.seed(0)  # a global generator must not matter
    two, other = prepare(loaded(), **options, seed=3), prepare(loaded(), **options, seed=4)
    for name in ("train", "validation"):
        np.testing.assert_array_equal(getattr(one, name).indices, getattr(two, name).indices)
        assert getattr(one, name).indices.tolist() != getattr(other, name).indices.tolist()
    np.testing.assert_array_equal(one.labelled, two.labelled)


def test_so_many_samples_of_each_class_keep_their_label():
    data = prepare(loaded(), labels_per_class=5, validation=0.2)
    targets = data.train.targets()
    assert targets.dtype == np.int64
    assert np.bincount(targets[targets != UNLABELLED]).tolist() == [5, 5, 5]
    np.testing.assert_array_equal(targets != UNLABELLED, data.labelled)
    np.testing.assert_array_equal(targets[data.labelled], data.train.labels[data.labelled])
    assert (data.validation.targets() != UNLABELLED).all()
    assert (data.test.targets() != UNLABELLED).all()


def test_how_many_labels_are_kept_changes_neither_validation_nor_the_fingerprint():
    few, all_of_them = prepare(loaded(), labels_per_class=2), prepare(loaded())
    np.testing.assert_array_equal(few.validation.indices, all_of_them.validation.indices)
    assert few.fingerprint == all_of_them.fingerprint


def test_more_labels_than_there_are_keeps_all_and_says_so():
    data = prepare(loaded((40, 6, 30)), labels_per_class=10, validation=0)
    assert np.bincount(data.train.labels[data.labelled]).tolist() == [10, 6, 10]
    assert "b (6)" in data.notes[-1]


def test_a_subset_is_cut_first_and_evenly():
    data = prepare(loaded((400, 200, 200)), subset=80, validation=0.25)
    assert len(data.train) + len(data.validation) == 80
    assert np.bincount(data.train.labels).tolist() == [30, 15, 15]


def test_a_subset_smaller_than_the_classes_is_refused_and_a_larger_one_noted():
    with pytest.raises(DataError, match="2 samples cannot hold all 3 classes"):
        prepare(loaded(), subset=2)
    assert "all 100 training samples" in prepare(loaded(), subset=101).notes[-1]


def test_validation_never_takes_the_last_sample_of_a_class():
    data = prepare(loaded((1, 2, 30)), validation=0.5)
    assert set(data.train.labels) == {0, 1, 2}
    assert "Too few" in prepare(loaded((1, 1)), validation=0.5).notes[-1]


def test_the_fingerprint_follows_whatever_changes_an_input():
    first = prepare(loaded(), augment="crop-flip", views=4).fingerprint
    changed = loaded()
    changed.train.pixels[3, 0, 0, 0] ^= 1
    assert prepare(changed, augment="crop-flip", views=4).fingerprint != first
    others = [{"seed": 1}, {"augment": "crop"}, {"views": 5}, {"normalize": "half"}, {"subset": 50}]
    for other in others:
        assert prepare(loaded(), **{"augment": "crop-flip", "views": 4, **other}).fingerprint != first
    assert prepare(loaded(), augment="crop-flip", views=4).fingerprint == first


def test_recipes_that_neither_erase_nor_mix_keep_the_answers_of_their_teachers():
    """Fingerprints as they were before views could be erased and mixed."""
    assert prepare(loaded()).fingerprint == "5c325c6bb359544deb62a082c6457af6"
    crop = prepare(loaded(), augment="crop-flip", views=4)
    assert crop.fingerprint == "60970b1910d49602795b3a1afb63a408"
    flip = prepare(loaded(), augment="flip", views=16, seed=3, subset=50, mix_alpha=0.2)
    assert flip.fingerprint == "cd165f986ad3e3112f25f238e36e8f71"


def test_the_fingerprint_follows_erasing_and_mixing_and_then_who_has_a_label():
    kinds = [{}, {"erase": 0.5}, {"erase": 0.2}]
    kinds += [{"mix": "mixup"}, {"mix": "cutmix"}, {"mix": "cutmix", "mix_alpha": 0.5}]
    kinds += [{"mix": "cutmix", "erase": 0.5}, {"mix": "cutmix", "labels_per_class": 3}]
    assert len({prepare(loaded(), views=4, augment="flip", **kind).fingerprint for kind in kinds}) == len(
        kinds
    )
    erased, few = (prepare(loaded(), views=4, erase=0.5, labels_per_class=k) for k in (None, 3))
    assert erased.fingerprint == few.fingerprint


def test_where_lots_are_drawn_for_each_view_there_are_as_many_as_asked_for():
    assert prepare(loaded(), augment="none", erase=0.1, views=500).views == 500
    assert prepare(loaded(), augment="flip", mix="mixup", views=500).views == 500


def test_there_are_no_more_views_than_an_augmentation_can_make():
    assert prepare(loaded(), augment="none", views=16).views == 1
    assert prepare(loaded(), augment="flip", views=16).views == 2
    assert prepare(loaded(), augment="crop-flip", views=16).views == 16
    assert prepare(loaded(), augment="crop", views=10_000).views == 25  # 16 pixels: padded by 2


@pytest.mark.parametrize(("name", "wanted"), [("auto", (MEAN, STD)), ("imagenet", IMAGENET), ("half", HALF)])
def test_normalisation_is_the_datasets_own_unless_asked(name, wanted):
    data = prepare(loaded(), normalize=name)
    assert (data.mean, data.std) == wanted


def test_an_epoch_shows_every_sample_once_and_is_repeatable():
    draws = plan(100, 32, epoch=2, seed=7, views=5)
    assert [len(draw.indices) for draw in draws] == [32, 32, 32, 4]
    assert sorted(np.concatenate([draw.indices for draw in draws]).tolist()) == list(range(100))
    again, next_epoch = plan(100, 32, 2, 7, 5), plan(100, 32, 3, 7, 5)
    for one, two in zip(draws, again, strict=True):
        np.testing.assert_array_equal(one.indices, two.indices)
        np.testing.assert_array_equal(one.views, two.views)
    assert draws[0].indices.tolist() != next_epoch[0].indices.tolist()


def test_an_order_can_be_of_given_samples():
    chosen = np.array([5, 9, 200])
    assert sorted(epoch_order(3, 0, 1, chosen).tolist()) == [5, 9, 200]
    np.testing.assert_array_equal(chosen[epoch_order(3, 0, 1)], epoch_order(3, 0, 1, chosen))


@pytest.mark.parametrize(
    ("n", "sizes"), [(65, [32, 33]), (64, [32, 32]), (66, [32, 32, 2]), (1, [1]), (0, [0])]
)
def test_a_last_batch_of_one_joins_the_batch_before(n, sizes):
    assert [len(draw.indices) for draw in plan(n, 32, 0, 0)] == sizes


def test_views_are_uniform_and_differ_by_epoch_sample_and_turn():
    indices = np.arange(16_000)
    seen = view_of(indices, 0, 0, 16)
    assert chisquare(np.bincount(seen, minlength=16)).pvalue > 0.001
    for other in (view_of(indices, 1, 0, 16), view_of(indices, 0, 1, 16), view_of(indices, 0, 0, 16, turn=1)):
        assert np.mean(seen == other) == pytest.approx(1 / 16, abs=0.01)
    np.testing.assert_array_equal(view_of(indices[::-5], 0, 0, 16), seen[::-5])
    assert not view_of(indices, 3, 3, 1).any()


def test_plain_training_gets_as_many_steps_of_labelled_samples_alone():
    labelled = np.zeros(100, bool)
    labelled[[3, 14, 15, 92, 65]] = True
    order, turns = labelled_order(np.flatnonzero(labelled), 7, 3, epoch=0, seed=0)
    assert order.shape == turns.shape == (7, 3)
    rounds = [order.ravel()[turns.ravel() == turn].tolist() for turn in range(4)]
    assert all(sorted(members) == [3, 14, 15, 65, 92] for members in rounds)
    assert len({tuple(members) for members in rounds}) > 1
    assert turns.ravel()[20] == 4
    draws = labelled_plan(labelled, 7, 3, 0, 0, views=1000)
    np.testing.assert_array_equal(np.stack([draw.indices for draw in draws]), order)
    views_of_3 = [view for draw in draws for index, view in zip(*draw, strict=True) if index == 3]
    assert len(set(views_of_3)) == len(views_of_3) > 1
    with pytest.raises(ValueError, match="no labelled sample"):
        labelled_order(np.array([], np.int64), 1, 1, 0, 0)


def test_batches_are_normalised_as_by_hand():
    data = prepare(loaded(), validation=0.3, labels_per_class=3)
    indices = np.array([4, 0, 11])
    inputs, targets = data.batches("train")(indices)
    pixels = data.train.part.images(data.train.indices[indices]).astype(np.float64)
    wanted = (pixels / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    np.testing.assert_allclose(inputs.numpy(), wanted, atol=1e-5)
    assert inputs.dtype == torch.float32
    assert targets.tolist() == data.train.targets()[indices].tolist()


def test_views_are_named_by_the_sample_and_not_by_its_place_in_a_subset():
    data = loaded()
    whole = Batches(Subset(data.train, np.arange(100)), MEAN, STD, augmentation=Augmentation("crop-flip"))
    some = Batches(Subset(data.train, np.array([8, 50])), MEAN, STD, augmentation=Augmentation("crop-flip"))
    views = np.array([3, 4])
    shown = some(np.array([0, 1]), views)[0]
    assert torch.equal(shown, whole(np.array([8, 50]), views)[0])
    assert not torch.equal(shown, some(np.array([0, 1]))[0])


def test_only_the_training_part_is_augmented():
    data = prepare(loaded(), augment="crop-flip", views=8)
    indices, views = np.arange(5), np.full(5, 3)
    for name in ("validation", "test"):
        batches = data.batches(name)
        assert torch.equal(batches(indices, views)[0], batches(indices)[0])


def test_grey_pixels_become_three_channels():
    data = prepare(loaded(channels=1), augment="crop-flip", views=8)
    inputs, _ = data.batches("train")(np.arange(6), np.arange(6))
    assert inputs.shape == (6, 3, 16, 16)
    undone = inputs.numpy() * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))
    np.testing.assert_allclose(undone[:, 0], undone[:, 2], atol=1e-5)


def test_what_is_read_from_disk_gives_the_same_batches_from_threads_that_end():
    data = loaded()
    lazy = OnDemand(data.train)
    draws = plan(100, 16, 0, 0, views=8)
    eager, streamed = (
        Batches(Subset(one, np.arange(100)), MEAN, STD, augmentation=Augmentation("crop-flip"))
        for one in (data.train, lazy)
    )
    kept = list(streamed.stream(draws))  # all of them: a place that is filled again must not show
    for (draw, *one), (same, *two) in zip(eager.stream(draws), kept, strict=True):
        assert draw is same
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
    assert lazy.threads
    assert all(name.startswith("kd-data") for name in lazy.threads)


def test_several_readers_share_a_batch(monkeypatch: pytest.MonkeyPatch):
    """Three threads meet while reading; the last batch has fewer samples than there are readers."""
    monkeypatch.setattr("kd_engine.batches.READERS", 3)
    meeting = threading.Barrier(3)
    lazy = OnDemand(part((25, 25)))
    images, shares = lazy.images, []

    def meet(indices: np.ndarray) -> np.ndarray:
        shares.append(indices.tolist())
        if len(indices) == 8:
            meeting.wait(timeout=5)
        return images(indices)

    lazy.images = meet
    draws = [Draw(rows, np.zeros_like(rows)) for rows in np.split(np.arange(50)[::-1].copy(), [24, 48])]
    batches = Batches(Subset(lazy, np.arange(50)), MEAN, STD)
    for draw, inputs, _ in batches.stream(draws):
        assert torch.equal(inputs, Batches(Subset(lazy.resident, np.arange(50)), MEAN, STD)(draw.indices)[0])
    assert sorted(map(len, shares)) == [1, 1, *[8] * 6]
    assert len(lazy.threads) == 3


@pytest.mark.parametrize("used", [0, 1, 3])
def test_a_stream_that_is_left_early_leaves_no_thread_and_can_be_begun_again(used: int):
    lazy = Batches(Subset(OnDemand(part((50, 50))), np.arange(100)), MEAN, STD)
    draws = plan(100, 10, 0, 0)
    stream = lazy.stream(draws)
    for _ in range(used):
        next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kd-data")]
    assert len(list(lazy.stream(draws))) == 10


def test_no_more_is_read_ahead_than_asked_for():
    """Draws are taken one by one, so that an epoch that is left has not been read to its end."""
    taken = []

    def draws():
        for draw in plan(100, 10, 0, 0):
            taken.append(draw)
            yield draw

    stream = Batches(Subset(OnDemand(part((50, 50))), np.arange(100)), MEAN, STD).stream(draws())
    assert len(taken) == 0
    next(stream)
    assert len(taken) == 1 + AHEAD
    stream.close()


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_an_error_while_reading_ahead_reaches_who_asks_in_its_turn(bad: int):
    """Also when only the last of a batch's readers fails; no thread is left."""
    lazy = Batches(Subset(OnDemand(part((5, 5))), np.arange(10)), MEAN, STD)
    draws = [Draw(np.arange(9), np.zeros(9, int)) for _ in range(5)]
    draws[bad] = Draw(np.array([*range(8), 99]), np.zeros(9, int))
    stream = lazy.stream(draws)
    for _ in range(bad):
        next(stream)
    with pytest.raises(IndexError):
        next(stream)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kd-data")]


def test_everything_in_order_for_evaluation():
    batches = prepare(loaded(), validation=0.23).batches("validation")
    parts = list(batches.all(10))
    assert [len(targets) for _, _, targets in parts] == [10, 10, 3]
    assert torch.equal(torch.cat([inputs for _, inputs, _ in parts]), batches(np.arange(23))[0])
    assert list(prepare(loaded(), validation=0).batches("validation").all(10)) == []


def test_batches_leave_the_pixels_alone():
    data = loaded()
    before = data.train.fingerprint()
    for _ in prepare(data, augment="crop-flip", views=9).batches("train").stream(plan(50, 10, 0, 0, 9)):
        pass
    assert data.train.fingerprint() == before


def test_pixels_beyond_the_budget_lie_in_a_file_and_read_the_same():
    here, there = room((700, 3, 32, 32), memory_mb=3), room((700, 3, 32, 32), memory_mb=2)
    here[:] = there[:] = np.random.default_rng(0).integers(0, 256, here.shape, dtype=np.uint8)
    in_memory, in_file = (Resident(pixels, np.zeros(700)) for pixels in (here, there))
    assert in_memory.in_memory
    assert not in_file.in_memory
    assert in_memory.fingerprint() == in_file.fingerprint()
    draws = plan(700, 100, 0, 0)
    streams = [Batches(Subset(one, np.arange(700)), MEAN, STD).stream(draws) for one in (in_memory, in_file)]
    for one, two in zip(*streams, strict=True):
        assert torch.equal(one[1], two[1])


def test_masks_follow_the_subset():
    data = prepare(loaded())
    indices = np.array([7, 2])
    wanted = data.train.part.object_masks[data.train.indices[indices]]
    np.testing.assert_array_equal(data.train.masks(indices), wanted)


def test_a_part_of_the_wrong_shape_is_refused():
    for shape in ((4, 2, 8, 8), (4, 3, 8, 9), (5, 3, 8, 8)):
        with pytest.raises(ValueError, match="expected"):
            Resident(np.zeros(shape, np.uint8), np.zeros(4))
    with pytest.raises(ValueError, match="uint8"):
        Resident(np.zeros((4, 3, 8, 8), np.float32), np.zeros(4))

"""Turn a loaded dataset into what a run needs: parts, labels that are kept, and orders of samples.

Everything is a pure function of its arguments: an epoch's order, the views in it and the samples that keep
their label can be worked out again at any time, which is how a run is resumed and a teacher's answers are
kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from kd_engine.augment import PLAIN, Augment, Augmentation, Mix, lots
from kd_engine.batches import Batches, Draw
from kd_engine.datasets import HALF, IMAGENET, Loaded, Part, Triple, shuffled, stratified
from kd_engine.errors import DataError
from kd_engine.tasks import UNLABELLED

Normalize = Literal["auto", "imagenet", "half"]
PartName = Literal["train", "validation", "test"]

# Lots drawn from one seed for different ends must differ: each end has its number.
SUBSET, VALIDATION, LABELLED, ORDER, VIEW, LABELLED_ORDER = range(6)


class Subset:
    """Some samples of a part, numbered from 0. `indices`: their numbers in the part. `labelled`: who keeps
    its label."""

    def __init__(self, part: Part, indices: np.ndarray, labelled: np.ndarray | None = None) -> None:
        self.part = part
        self.indices = indices
        self.labelled = np.ones(len(indices), bool) if labelled is None else labelled

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def size(self) -> int:
        return self.part.size

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64: the truth, for measuring only; what training may see is `targets`."""
        labels: np.ndarray = self.part.labels[self.indices]
        return labels

    def targets(self) -> np.ndarray:
        """(n,) int64, UNLABELLED where the label is withheld."""
        return np.where(self.labelled, self.labels, UNLABELLED)

    def fingerprint(self) -> str:
        """Changes whenever an image of it, or their order, changes."""
        key = self.part.fingerprint().encode() + self.indices.astype("<i8").tobytes()
        return hashlib.blake2b(key, digest_size=16).hexdigest()

    def images(self, indices: np.ndarray) -> np.ndarray:
        """(n, 3, size, size) uint8, RGB."""
        return self.part.images(self.indices[indices])

    def masks(self, indices: np.ndarray) -> np.ndarray | None:
        """(n, size, size) bool, true on the object, or None where that is not known."""
        return self.part.masks(self.indices[indices])


@dataclass(frozen=True)
class Data:
    """A dataset made ready for one run.

    labelled: which training samples keep their label, (n,) bool. views: how many views of a sample there
    are, which may be fewer than asked for. fingerprint: changes whenever a training input (sample, view)
    would.
    """

    train: Subset
    validation: Subset
    test: Subset
    classes: tuple[str, ...]
    mean: Triple
    std: Triple
    augmentation: Augmentation
    views: int
    seed: int
    notes: tuple[str, ...]
    fingerprint: str

    @property
    def size(self) -> int:
        return self.train.size

    @property
    def labelled(self) -> np.ndarray:
        return self.train.labelled

    def batches(self, part: PartName, device: torch.device | str = "cpu") -> Batches:
        """Inputs and targets of one part, on `device`; only the training part has views other than 0."""
        return Batches(
            getattr(self, part),
            self.mean,
            self.std,
            augmentation=self.augmentation if part == "train" else PLAIN,
            seed=self.seed,
            device=device,
            classes=len(self.classes),
        )


def prepare(
    loaded: Loaded,
    *,
    labels_per_class: int | None = None,
    validation: float = 0.1,
    subset: int | None = None,
    augment: Augment = "none",
    erase: float = 0.0,
    mix: Mix = "none",
    mix_alpha: float = 1.0,
    views: int = 1,
    seed: int = 0,
    normalize: Normalize = "auto",
) -> Data:
    """Cut the training part down to `subset`, take `validation` (a share) out of it, and withhold all labels
    but `labels_per_class`: each evenly by class, by lot. The test part stays as it is. See
    recipe.DataKnobs."""
    notes = list(loaded.notes)
    labels = loaded.train.labels
    chosen = np.arange(len(labels))
    if subset is not None:
        chosen = _subset(labels, subset, len(loaded.classes), seed, notes)
    held = stratified(labels[chosen], round(validation * len(chosen)), seed, VALIDATION, leave=1)
    if validation > 0 and len(held) == 0:
        notes.append(f"Too few samples ({len(chosen)}) to hold any out for validation.")
    train = np.delete(chosen, held)
    labelled = np.ones(len(train), bool)
    if labels_per_class is not None:
        labelled = _labelled(labels[train], labels_per_class, loaded.classes, seed, notes)
    named = {"auto": (loaded.mean, loaded.std), "imagenet": IMAGENET, "half": HALF}
    mean, std = named[normalize]
    augmentation = Augmentation(augment, erase, mix, mix_alpha)
    views = min(views, augmentation.distinct(loaded.train.size))
    key = (loaded.train.fingerprint(), mean, std, augment, views, seed, *augmentation.key())
    digest = hashlib.blake2b(repr(key).encode() + train.astype("<i8").tobytes(), digest_size=16)
    if mix != "none":  # who is mixed with whom depends on who has a label
        digest.update(labelled.tobytes())
    return Data(
        Subset(loaded.train, train, labelled),
        Subset(loaded.train, chosen[held]),
        Subset(loaded.test, np.arange(len(loaded.test))),
        loaded.classes,
        mean,
        std,
        augmentation,
        views,
        seed,
        tuple(notes),
        digest.hexdigest(),
    )


def _subset(labels: np.ndarray, count: int, classes: int, seed: int, notes: list[str]) -> np.ndarray:
    if count < classes:
        raise DataError(
            f"data.subset: {count} samples cannot hold all {classes} classes.", f"Ask for {classes} or more."
        )
    if count > len(labels):
        notes.append(f"A subset of {count} was asked for; all {len(labels)} training samples are used.")
    return stratified(labels, count, seed, SUBSET)


def _labelled(
    labels: np.ndarray, count: int, classes: tuple[str, ...], seed: int, notes: list[str]
) -> np.ndarray:
    """Which samples keep their label: `count` of every class, or all of a class that has no more."""
    order = shuffled(len(labels), seed, LABELLED)
    labelled = np.zeros(len(labels), bool)
    short = []
    for k, name in enumerate(classes):
        members = order[labels[order] == k]
        labelled[members[:count]] = True
        if len(members) < count:
            short.append(f"{name} ({len(members)})")
    if short:
        notes.append(f"{count} labels per class were asked for; fewer samples are there: {', '.join(short)}.")
    return labelled


def epoch_order(n: int, epoch: int, seed: int, indices: np.ndarray | None = None) -> np.ndarray:
    """0 ... n-1, or the n given indices, in the order of that epoch."""
    order = shuffled(n, seed, ORDER, epoch)
    return order if indices is None else indices[order]


def view_of(indices: np.ndarray, epoch: int, seed: int, views: int, turn: np.ndarray | int = 0) -> np.ndarray:
    """Which view of each sample an epoch shows, (n,) int64: uniform over 0 ... views-1, another for another
    epoch.

    turn: the how-manieth time in this epoch that the sample is seen.
    """
    return (lots(VIEW, seed, epoch, turn, indices) % np.uint64(views)).astype(np.int64)


def view_in_turn(indices: np.ndarray, epoch: int, views: int) -> np.ndarray:
    """Which view of each sample an epoch shows, (n,) int64: all of them in turn, each sample from a start of
    its own. The same for every seed: so what a teacher said in one run is of use to the others, and after as
    many epochs as there are views it has said everything."""
    return ((lots(VIEW, indices) + np.uint64(epoch)) % np.uint64(views)).astype(np.int64)


def plan(n: int, batch_size: int, epoch: int, seed: int, views: int = 1) -> list[Draw]:
    """An epoch of `n` samples in batches; the last may be smaller. A last batch of one, which BatchNorm
    cannot take, joins the batch before it."""
    order = epoch_order(n, epoch, seed)
    starts = list(range(0, n, batch_size))
    if len(starts) > 1 and n - starts[-1] == 1:
        starts.pop()
    return [Draw(part, view_in_turn(part, epoch, views)) for part in np.split(order, starts[1:])]


def labelled_order(
    labelled_indices: np.ndarray, steps: int, batch_size: int, epoch: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Batches of labelled samples alone, for plain training with as many steps as a distilled student's
    epoch.

    The samples are gone through again and again, each time in a fresh order. Returns indices and turns (the
    how-manieth time each is seen, from 0), both (steps, batch_size). ValueError without a labelled sample.
    """
    n, wanted = len(labelled_indices), steps * batch_size
    if n == 0:
        raise ValueError("no labelled sample to draw batches from")
    rounds = -(-wanted // n)
    order = np.concatenate([shuffled(n, seed, LABELLED_ORDER, epoch, turn) for turn in range(rounds)])
    turns = np.repeat(np.arange(rounds), n)
    shape = (steps, batch_size)
    return labelled_indices[order[:wanted]].reshape(shape), turns[:wanted].reshape(shape)


def labelled_plan(
    labelled: np.ndarray, steps: int, batch_size: int, epoch: int, seed: int, views: int = 1
) -> list[Draw]:
    """As `plan`, for `labelled_order`. labelled: bool over the training samples, as in Data."""
    batches, turns = labelled_order(np.flatnonzero(labelled), steps, batch_size, epoch, seed)
    return [
        Draw(part, view_of(part, epoch, seed, views, turn)) for part, turn in zip(batches, turns, strict=True)
    ]

"""Turn draws of samples into batches: gathered, changed as their views say, normalised, on the device.

Pixels in memory are put on the device once, as uint8; others are read ahead of who asks, by several threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kd_engine.augment import PLAIN, Augmentation, augmented, erased
from kd_engine.datasets import Resident, Triple
from kd_engine.mixing import Blend, Mixing, mixed, soft_targets

if TYPE_CHECKING:
    from kd_engine.data import Subset

# PIL opens a picture holding Python's lock, and decodes it without. So more than a few readers would wait for
# each other, not for a core.
READERS = min(8, os.cpu_count() or 1)
AHEAD = 2  # batches that are read while one is used


class Draw(NamedTuple):
    """One batch, by name: sample numbers in a Subset and the view of each, (n,) int64."""

    indices: np.ndarray
    views: np.ndarray


class Batch(NamedTuple):
    """A draw with its inputs (n, 3, S, S), normalised, and targets, see kd_engine.tasks, on the device."""

    draw: Draw
    inputs: Tensor
    target: Tensor


class _Wanted(NamedTuple):
    """What a batch is made of. rows: sample numbers of its images, (n,), or (2n,) with those that are mixed
    in after the others; views: of each."""

    rows: np.ndarray
    views: np.ndarray | None
    blend: Blend | None


class Batches:
    """Normalised inputs and targets of a subset, on a device.

    Pixels in memory are put on the device once, as uint8, and gathered there; others are read when asked for.
    """

    def __init__(
        self,
        subset: Subset,
        mean: Triple,
        std: Triple,
        *,
        augmentation: Augmentation = PLAIN,
        seed: int = 0,
        device: torch.device | str = "cpu",
        classes: int = 0,
    ) -> None:
        """classes: how many there are, where images are mixed."""
        self.subset = subset
        self.augmentation = augmentation
        self.seed = seed
        self.classes = classes
        self.device = torch.device(device)
        self._mean = torch.tensor(mean, device=self.device).view(3, 1, 1) * 255
        self._scale = 1 / (torch.tensor(std, device=self.device).view(3, 1, 1) * 255)
        self._fill = self._mean.round().to(torch.uint8)
        self._targets = torch.from_numpy(subset.targets())
        self._mixing = None
        if augmentation.mix != "none":
            self._mixing = Mixing(augmentation, subset.indices, subset.labelled, subset.size, seed)
        self._pixels, self._rows = self._resident()

    def __len__(self) -> int:
        return len(self.subset)

    def __call__(self, indices: np.ndarray, views: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Inputs (n, 3, S, S) float32 and targets, for sample numbers in the subset and their views (0).

        Targets are (n,) int64; where views are mixed, (n, classes) float32. See kd_engine.tasks.
        """
        return self.inputs(indices, views), self.targets(indices, views)

    def inputs(self, indices: np.ndarray, views: np.ndarray | None = None) -> Tensor:
        wanted = self._wanted(indices, views)
        return self._shown(self._gather(wanted.rows), wanted)

    def targets(self, indices: np.ndarray, views: np.ndarray | None = None) -> Tensor:
        if self._mixing is None or views is None:
            target = self._targets[torch.from_numpy(indices)]
        else:
            blend, known = self._mixing.blend(indices, views), self._targets.numpy()
            target = soft_targets(known[indices], known[blend.partners], blend.own, self.classes)
        return target.to(self.device, non_blocking=True)

    def stream(self, draws: Iterable[Draw]) -> Generator[Batch, None, None]:
        """Each draw with its inputs and targets, in order. What is not in memory is read ahead, by threads
        that end with the generator: close it when leaving early."""
        if self._pixels is not None:
            for draw in draws:
                yield Batch(draw, *self(*draw))
            return
        wanted = ((draw, self._wanted(*draw)) for draw in draws)
        with closing(_ahead(self.subset, wanted, self.device)) as read:
            for draw, made_of, images in read:
                yield Batch(draw, self._shown(images, made_of), self.targets(*draw))

    def all(self, batch_size: int) -> Generator[Batch, None, None]:
        """Every sample once, in order, unchanged: for evaluation."""
        numbers = np.arange(len(self))
        cuts = range(batch_size, len(self), batch_size)
        return self.stream(Draw(part, np.zeros_like(part)) for part in np.split(numbers, cuts) if len(part))

    def _wanted(self, indices: np.ndarray, views: np.ndarray | None) -> _Wanted:
        if self._mixing is None or views is None:
            return _Wanted(indices, views, None)
        blend = self._mixing.blend(indices, views)
        rows, seen = ((indices, blend.partners), (views, blend.views))
        return _Wanted(np.concatenate(rows), np.concatenate(seen), blend)

    def _shown(self, images: Tensor, wanted: _Wanted) -> Tensor:
        """The views of uint8 images on the device, normalised: never the images' own memory."""
        if wanted.views is not None:
            names, views, kind = self.subset.indices[wanted.rows], wanted.views, self.augmentation
            images = augmented(images, names, views, self.seed, kind.moves)
            if kind.erase:
                fill = self._fill[: images.shape[1]]
                images = erased(images, names, views, self.seed, kind.erase, fill)
        if wanted.blend is not None:
            own, others = images.chunk(2)
            images = mixed(own, others, wanted.blend)
        images = images.expand(-1, 3, -1, -1)  # grey becomes three channels here
        return images.float().sub_(self._mean).mul_(self._scale)

    def _resident(self) -> tuple[Tensor | None, np.ndarray]:
        """The pixels on the device, if they are in memory, and each sample's row among them."""
        part, indices = self.subset.part, self.subset.indices
        if not isinstance(part, Resident) or not part.in_memory:
            return None, indices
        if self.device.type != "cpu":
            return torch.from_numpy(part.pixels[indices]).to(self.device), np.arange(len(indices))
        shared = (
            part.pixels if part.pixels.flags.writeable else part.pixels.copy()
        )  # torch warns of read-only arrays
        return torch.from_numpy(shared), indices

    def _gather(self, indices: np.ndarray) -> Tensor:
        if self._pixels is None:
            return torch.from_numpy(self.subset.images(indices)).to(self.device)
        return self._pixels.index_select(0, torch.from_numpy(self._rows[indices]).to(self.device))


class _Room:
    """Pixels of a batch on their way to the device, for one batch after the other."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pixels = torch.empty(0)
        self._left: torch.cuda.Event | None = None  # when what was in it is on the device

    def hold(self, shape: tuple[int, ...]) -> Tensor:
        """A host tensor (n, 3, S, S) uint8 to be filled. Waits until what was in it is on its way."""
        if self._left is not None:
            self._left.synchronize()
        if self._pixels.shape[1:] != shape[1:] or len(self._pixels) < shape[0]:
            self._pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        return self._pixels[: shape[0]]

    def send(self, pixels: Tensor) -> Tensor:
        """What `hold` gave, filled, on the device; on the CPU the very same."""
        there = pixels.to(self._device, non_blocking=True)
        if self._device.type == "cuda":
            self._left = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._left.record()
        return there


class _Reading(NamedTuple):
    """A batch that is being read: where to, and by whom."""

    draw: Draw
    wanted: _Wanted
    room: _Room
    pixels: Tensor
    shares: list[Future[None]]


def _ahead(
    subset: Subset, draws: Iterable[tuple[Draw, _Wanted]], device: torch.device
) -> Generator[tuple[Draw, _Wanted, Tensor], None, None]:
    """Each draw with its images, uint8, in order; AHEAD more are being read. Images are good until the next
    are asked for.

    The threads only read: memory is held, sent and waited for by who asks, so that nothing happens on the
    device at a time of which its owner does not know.
    """
    rest = iter(draws)
    rooms = deque(_Room(device) for _ in range(AHEAD + 2))  # one is used, and one may be on its way
    with ThreadPoolExecutor(READERS, thread_name_prefix="kd-data") as readers:
        waiting: deque[_Reading] = deque()

        def begin(draw: Draw, wanted: _Wanted) -> None:
            rooms.rotate(-1)
            pixels = rooms[0].hold((len(wanted.rows), 3, subset.size, subset.size))
            shares = np.array_split(np.arange(len(wanted.rows)), READERS)
            begun = [
                readers.submit(_read, subset, wanted.rows, share, pixels) for share in shares if len(share)
            ]
            waiting.append(_Reading(draw, wanted, rooms[0], pixels, begun))

        try:
            for draw, wanted in islice(rest, AHEAD):
                begin(draw, wanted)
            while waiting:
                first = waiting[0]
                for share in first.shares:
                    share.result()
                waiting.popleft()
                for draw, wanted in islice(rest, 1):
                    begin(draw, wanted)
                yield first.draw, first.wanted, first.room.send(first.pixels)
        finally:
            for reading in waiting:
                for share in reading.shares:
                    share.cancel()


def _read(subset: Subset, rows: np.ndarray, share: np.ndarray, pixels: Tensor) -> None:
    """Some samples of a batch, neighbours in it, to their places."""
    pixels.numpy()[share[0] : share[-1] + 1] = subset.images(rows[share])

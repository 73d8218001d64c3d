"""Turn draws of samples into batches: gathered, changed as their views say, normalised, on the device.

Pixels in memory are put on the device once, as uint8; others are read ahead of who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kd_engine.augment import Augment, augmented
from kd_engine.datasets import Resident, Triple

if TYPE_CHECKING:
    from kd_engine.data import Subset


class Draw(NamedTuple):
    """One batch, by name: sample numbers in a Subset and the view of each, (n,) int64."""

    indices: np.ndarray
    views: np.ndarray


class Batch(NamedTuple):
    """A draw with its inputs (n, 3, S, S), normalised, and targets (n,), on the device."""

    draw: Draw
    inputs: Tensor
    target: Tensor


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
        augment: Augment = "none",
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.subset = subset
        self.augment: Augment = augment
        self.seed = seed
        self.device = torch.device(device)
        self._mean = torch.tensor(mean, device=self.device).view(3, 1, 1) * 255
        self._scale = 1 / (torch.tensor(std, device=self.device).view(3, 1, 1) * 255)
        self._targets = torch.from_numpy(subset.targets())
        self._pixels, self._rows = self._resident()

    def __len__(self) -> int:
        return len(self.subset)

    def __call__(self, indices: np.ndarray, views: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Inputs (n, 3, S, S) float32 and targets (n,) int64, for sample numbers in the subset and their
        views (0)."""
        return self.inputs(indices, views), self.targets(indices)

    def inputs(self, indices: np.ndarray, views: np.ndarray | None = None) -> Tensor:
        images = self._gather(indices)
        if views is not None:
            images = augmented(images, self.subset.indices[indices], views, self.seed, self.augment)
        return (images.float() - self._mean).mul_(self._scale)  # grey becomes three channels here

    def targets(self, indices: np.ndarray) -> Tensor:
        return self._targets[torch.from_numpy(indices)].to(self.device, non_blocking=True)

    def stream(self, draws: Iterable[Draw]) -> Generator[Batch, None, None]:
        """Each draw with its inputs and targets, in order. What is not in memory is read ahead, by a thread
        that ends with the generator: close it when leaving early."""
        if self._pixels is not None:
            for draw in draws:
                yield Batch(draw, *self(*draw))
            return
        with closing(_ahead(lambda draw: Batch(draw, *self(*draw)), draws)) as made:
            yield from made

    def all(self, batch_size: int) -> Generator[Batch, None, None]:
        """Every sample once, in order, unchanged: for evaluation."""
        numbers = np.arange(len(self))
        cuts = range(batch_size, len(self), batch_size)
        return self.stream(Draw(part, np.zeros_like(part)) for part in np.split(numbers, cuts) if len(part))

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


def _ahead(
    make: Callable[[Draw], Batch], draws: Iterable[Draw], depth: int = 2
) -> Generator[Batch, None, None]:
    """`make` of each draw, in order, up to `depth` of them ahead of who asks."""
    rest = iter(draws)
    with ThreadPoolExecutor(1, thread_name_prefix="kd-data") as worker:
        waiting: list[Future[Batch]] = [worker.submit(make, draw) for draw in islice(rest, depth)]
        try:
            while waiting:
                made = waiting.pop(0).result()
                waiting.extend(worker.submit(make, draw) for draw in islice(rest, 1))
                yield made
        finally:
            for future in waiting:
                future.cancel()

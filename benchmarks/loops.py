"""The loops that are compared: the bare floor, a session of ours, and training as the references write it.

Each is a generator that warms itself up and then yields the seconds of one epoch after the other, so that
`in_turn` can time them side by side: what else the machine does then falls on all alike.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from kd_engine import Recipe, Session, models
from kd_engine import events as e
from kd_engine._torchvision import import_torchvision
from kd_engine.events import Event

CLASSES, SIZE = 10, 32
VIEWS = 2  # that are kept: from the third epoch on the teacher is asked for nothing
KD: tuple[dict[str, Any], ...] = ({"method": "kd"},)
Epochs = Iterator[float]  # seconds of one epoch after the other


@dataclass(frozen=True)
class Pair:
    """Who teaches whom on what. folder: where the data, the teacher's weights, runs and answers are kept.

    precision: of ours and of the floor; the references compute in float32. graph: our steps are replayed.
    """

    teacher: str
    student: str
    batch: int
    images: int
    folder: Path
    device: str = "cpu"
    precision: str = "32"
    workers: int = 2  # that load samples for the references
    graph: bool = False

    @property
    def name(self) -> str:
        return f"{self.teacher} → {self.student}"

    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """Noise: what is in them costs nothing. (N, 3, S, S) uint8 and (N,) int64."""
        draw = np.random.default_rng(0)
        images = draw.integers(0, 256, (self.images, 3, SIZE, SIZE), np.uint8)
        return images, draw.integers(0, CLASSES, self.images)

    def write(self) -> Pair:
        """Put the data and the teacher's weights where a recipe finds them; returns itself."""
        images, labels = self.pictures()
        few = min(self.images, 64)
        np.savez(
            self.folder / "data.npz", x_train=images, y_train=labels, x_test=images[:few], y_test=labels[:few]
        )
        torch.manual_seed(0)
        torch.save(models.create(self.teacher, CLASSES, SIZE).state_dict(), self.folder / "teacher.pth")
        return self

    def resident(self) -> tuple[Tensor, Tensor]:
        """All of it on the device, normalised floats in the layout that is fastest."""
        images, labels = self.pictures()
        x = ((torch.from_numpy(images).float() / 255 - 0.5) / 0.25).to(self.device)
        return x.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels).to(self.device)

    def model(self, name: str) -> nn.Module:
        torch.manual_seed(0)
        return models.create(name, CLASSES, SIZE).to(self.device)

    def autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "32":
            return nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)

    def now(self) -> float:
        """Seconds, when the device has done what it was told."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def in_turn(makers: Mapping[str, Callable[[], Epochs]], epochs: int) -> dict[str, list[float]]:
    """Seconds: one epoch of each, then the next of each."""
    running = {name: make() for name, make in makers.items()}
    times: dict[str, list[float]] = {name: [] for name in makers}
    try:
        for _ in range(epochs):
            for name, moving in running.items():
                times[name].append(next(moving))
    finally:
        for moving in running.values():
            moving.close()  # type: ignore[attr-defined]
    return times


def floor(pair: Pair) -> Epochs:
    """The student alone: plain PyTorch on a resident tensor, channels-last, fused SGD; no teacher, no
    augmentation, no figures."""
    model = pair.model(pair.student).to(memory_format=torch.channels_last).train()
    x, y = pair.resident()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)

    def epoch() -> float:
        started = pair.now()
        for rows in torch.randperm(len(x), device=x.device).split(pair.batch):
            with pair.autocast():
                logits = model(x[rows].contiguous(memory_format=torch.channels_last))
                loss = F.cross_entropy(logits, y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return pair.now() - started

    epoch()
    while True:
        yield epoch()


def recipe(
    pair: Pair,
    methods: Sequence[Mapping[str, Any]] = KD,
    rivals: Sequence[Mapping[str, Any]] = (),
    epochs: int = 1000,
) -> Recipe:
    """A session's: crop and flip, soft targets unless other methods are asked for."""
    stage = {
        "stage": "distill",
        "epochs": epochs,
        "batch_size": pair.batch,
        "snapshots": False,
        "label_weight": 0.1,
        "methods": [dict(method) for method in methods],
        "rivals": [dict(rival) for rival in rivals],
    }
    data = {"dataset": "arrays", "path": str(pair.folder / "data.npz"), "validation": 0.0}
    document = {
        "name": "benchmark",
        "data": {**data, "augment": "crop-flip", "views": VIEWS},
        "teacher": {"model": pair.teacher, "weights": str(pair.folder / "teacher.pth")},
        "student": {"model": pair.student},
        "stages": [stage],
        "hardware": {
            "device": pair.device,
            "precision": pair.precision,
            "graph": pair.graph,
            "threads": torch.get_num_threads(),  # as the floor: not what a measurement chooses
            "cache": "disk",
        },
    }
    return Recipe.from_document(document)


def epoch_times(pair: Pair, asked: Recipe, cache: Path) -> Epochs:
    """Seconds of each epoch of a session, from its first on, with one checkpoint that was begun in it. cache:
    the folder of the teacher's answers."""
    with closing(iter(Session(asked, pair.folder / "runs"))) as events:
        os.environ["KD_CACHE"] = str(cache)  # read when the stage begins
        _to(e.StageStarted, events)
        while True:
            started = pair.now()
            _to(e.EpochDone, events)
            yield pair.now() - started


def ours(
    pair: Pair, methods: Sequence[Mapping[str, Any]] = KD, rivals: Sequence[Mapping[str, Any]] = ()
) -> Epochs:
    """A session whose teacher has said all that it is asked, with its reports and checkpoints."""
    with closing(epoch_times(pair, recipe(pair, methods, rivals), pair.folder / "cache")) as times:  # type: ignore[type-var]
        for _ in range(VIEWS):
            next(times)
        yield from times


def filling(pair: Pair) -> Epochs:
    """The first epoch of one new session after the other, of which each must ask its teacher all."""
    for number in range(10**6):
        with tempfile.TemporaryDirectory(dir=pair.folder) as cache:
            with closing(epoch_times(pair, recipe(pair), Path(cache))) as times:  # type: ignore[type-var]
                seconds = next(times)
            if number:  # the first one warms up
                yield seconds


def teacher_pass(pair: Pair) -> Epochs:
    """The teacher says its logits of all images once, in the best layout."""
    model = pair.model(pair.teacher).to(memory_format=torch.channels_last).eval()
    x, _ = pair.resident()

    def once() -> float:
        started = pair.now()
        with torch.no_grad(), pair.autocast():
            for part in x.split(pair.batch):
                model(part)
        return pair.now() - started

    once()
    while True:
        yield once()  # outside of no_grad, which would hold for whoever comes next


def reference(pair: Pair) -> Epochs:
    """As RepDistiller and mdistiller train: teacher forward at every step, PIL transforms for each sample in
    loader workers, `.item()` at every step."""
    student, teacher = pair.model(pair.student).train(), pair.model(pair.teacher).eval()
    images, labels = pair.pictures()
    pinned = pair.device == "cuda"
    loader = DataLoader(
        Samples(images, labels), pair.batch, shuffle=True, num_workers=pair.workers, pin_memory=pinned
    )
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    while True:
        started, total = pair.now(), 0.0
        for x, y in loader:
            x, y = x.to(pair.device), y.to(pair.device)
            logits = student(x)
            with torch.no_grad():
                soft = teacher(x)
            kd = F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(soft / 4, 1), reduction="batchmean") * 16
            loss = 0.1 * F.cross_entropy(logits, y) + 0.9 * kd
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        yield pair.now() - started


class Samples(Dataset[tuple[Tensor, int]]):
    """Images as the references hold them: one by one, through PIL."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images.transpose(0, 2, 3, 1), labels
        transforms = import_torchvision().transforms
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(SIZE, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.25,) * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])


def _to(kind: type[e.StageStarted | e.EpochDone], events: Iterator[Event]) -> None:
    """Move to the next one of the student."""
    for event in events:
        if isinstance(event, kind) and getattr(event, "student", e.STUDENT) == e.STUDENT:
            return
        if isinstance(event, e.RunFailed):
            raise RuntimeError(event.message)
    raise RuntimeError("the run came to its end")

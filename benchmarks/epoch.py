"""What an epoch of distillation costs beside the floor, and beside the way in which the references train.

    python -m benchmarks.epoch [--pairs resnet56:resnet20,...] [--batch 64,128] [--images 2048] [--repeats 3]

floor: the same student alone, plain PyTorch on a resident float tensor, channels-last, fused SGD, no teacher,
no augmentation, no figures. ours: a session with crop and flip, soft targets, every report and checkpoint on;
`filling` is its first epoch, in which the teacher is asked (over the floor and one pass of the teacher),
`warm` the later ones (over the floor). reference: teacher forward at every step, PIL transforms for each
sample in two loader workers, `.item()` at every step, as RepDistiller and mdistiller do.

All of a pair are timed in turn, one epoch each, over and over: figures are medians of epochs and their
ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kd_engine import Recipe, Session, models
from kd_engine import events as e
from kd_engine._torchvision import import_torchvision

HEADS = ("batch", "floor, s", "warm", "filling", "reference/warm", "reference")
PAIRS = "resnet56:resnet20,wrn_40_2:wrn_16_1,resnet110:resnet8,vgg13:mobilenetv2"
CLASSES, SIZE = 10, 32
Epochs = Iterator[float]  # seconds of one epoch after the other


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--batch", default="64,128")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without-reference", action="store_true")
    asked = parser.parse_args()
    print(f"{'teacher:student':22s}  " + "  ".join(f"{head:>15s}" for head in HEADS))
    for pair in asked.pairs.split(","):
        for batch in map(int, asked.batch.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                row = measure(*pair.split(":"), batch, asked, Path(folder))
            print(f"{pair:22s}  {batch:15d}  {row}", flush=True)


def measure(teacher: str, student: str, batch: int, asked: Any, folder: Path) -> str:
    """One row of the table, ratios to the floor of the same run."""
    images, labels = pictures(asked.images)
    np.savez(folder / "data.npz", x_train=images, y_train=labels, x_test=images[:64], y_test=labels[:64])
    torch.manual_seed(0)
    torch.save(models.create(teacher, CLASSES, SIZE).state_dict(), folder / "teacher.pth")
    makers: dict[str, Callable[[], Epochs]] = {
        "floor": lambda: floor(student, images, labels, batch),
        "ours": lambda: ours(teacher, student, batch, folder, asked.repeats + 2),
    }
    if not asked.without_reference:
        makers["reference"] = lambda: reference(teacher, student, images, labels, batch, folder)
    times = in_turn(makers, asked.repeats + 1)
    warm = {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
    once = teacher_pass(teacher, images, batch)
    figures = [
        f"{warm['floor']:.2f}",
        *(
            f"{ratio:.2f}"
            for ratio in (warm["ours"] / warm["floor"], times["ours"][0] / (warm["floor"] + once))
        ),
    ]
    if "reference" in warm:
        figures += [f"{warm['reference'] / warm[name]:.1f}" for name in ("ours", "floor")]
    return "  ".join(f"{figure:>15s}" for figure in figures)


def in_turn(makers: dict[str, Callable[[], Epochs]], epochs: int) -> dict[str, list[float]]:
    """One epoch of each, then the next of each: what else the machine does then falls on all alike."""
    running = {name: make() for name, make in makers.items()}
    times: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(epochs):
        for name, moving in running.items():
            times[name].append(next(moving))
    for moving in running.values():
        moving.close()  # type: ignore[attr-defined]
    return times


def floor(student: str, images: np.ndarray, labels: np.ndarray, batch: int) -> Epochs:
    torch.manual_seed(0)
    model = models.create(student, CLASSES, SIZE).to(memory_format=torch.channels_last).train()
    x = normalised(torch.from_numpy(images)).contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)
    while True:
        started = time.perf_counter()
        for rows in torch.randperm(len(x)).split(batch):
            loss = F.cross_entropy(model(x[rows].contiguous(memory_format=torch.channels_last)), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        yield time.perf_counter() - started


def ours(teacher: str, student: str, batch: int, folder: Path, epochs: int) -> Epochs:
    stage = {
        "stage": "distill",
        "epochs": epochs,
        "batch_size": batch,
        "snapshots": False,
        "label_weight": 0.1,
        "methods": [{"method": "kd"}],
    }
    document = {
        "name": "epoch",
        "data": {
            "dataset": "arrays",
            "path": str(folder / "data.npz"),
            "validation": 0.0,
            "augment": "crop-flip",
            "views": 1,
        },
        "teacher": {"model": teacher, "weights": str(folder / "teacher.pth")},
        "student": {"model": student},
        "stages": [stage],
        "hardware": {"device": "cpu", "cache": "memory"},
    }
    with closing(iter(Session(Recipe.from_document(document), folder / "runs"))) as events:
        for event in events:
            if isinstance(event, e.CheckpointSaved) and event.step == 0:
                break
        started = time.perf_counter()
        for event in events:  # up to the checkpoint that ends an epoch
            if isinstance(event, e.CheckpointSaved):
                yield time.perf_counter() - started
                started = time.perf_counter()


def reference(
    teacher: str, student: str, images: np.ndarray, labels: np.ndarray, batch: int, folder: Path
) -> Epochs:
    torch.manual_seed(0)
    module = models.create(student, CLASSES, SIZE).train()
    taught_by = models.create(teacher, CLASSES, SIZE).eval()
    taught_by.load_state_dict(torch.load(folder / "teacher.pth", weights_only=True))
    loader = DataLoader(Samples(images, labels), batch, shuffle=True, num_workers=2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    while True:
        started, total = time.perf_counter(), 0.0
        for x, y in loader:
            logits = module(x)
            with torch.no_grad():
                soft = taught_by(x)
            kd = F.kl_div(F.log_softmax(logits / 4, 1), F.softmax(soft / 4, 1), reduction="batchmean") * 16
            loss = 0.1 * F.cross_entropy(logits, y) + 0.9 * kd
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        yield time.perf_counter() - started


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


def teacher_pass(teacher: str, images: np.ndarray, batch: int) -> float:
    """Seconds in which the teacher says its logits of all images once, in the best layout."""
    model = models.create(teacher, CLASSES, SIZE).to(memory_format=torch.channels_last).eval()
    x = normalised(torch.from_numpy(images)).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        model(x[:batch])
        started = time.perf_counter()
        for part in x.split(batch):
            model(part)
        return time.perf_counter() - started


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise: what is in them costs nothing. (N, 3, S, S) uint8 and (N,) int64."""
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (count, 3, SIZE, SIZE), np.uint8), draw.integers(0, CLASSES, count)


def normalised(images: Tensor) -> Tensor:
    return (images.float() / 255 - 0.5) / 0.25


if __name__ == "__main__":
    main()

"""How much memory a process takes for a teacher's answers about a million samples, of a hundred classes each.

    python -m benchmarks.memory [--rows 1000000] [--classes 100] [--batch 256]

rows: so many rows of logits (uint16 words) are written in batches to `kd_engine.memory.Rows` on disk, then
all are read in shuffled batches. teacher: the same through a cached teacher of a dataset with a hundred views
of each image: all that its network says is asked for once, then read in another order.

Grown: the most that the process held (VmRSS) after any batch, over what it held when the files were open; and
how much of that is anonymous (RssAnon) and how much pages of files (RssFile), which the system takes back
when somebody else wants the room. Linux only.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks import figures, loops
from benchmarks.figures import Figure
from kd_engine import Recipe
from kd_engine.batches import Batch
from kd_engine.cached import CachedTeacher
from kd_engine.classroom import Classroom
from kd_engine.data import Draw
from kd_engine.memory import Rows

STATUS = Path("/proc/self/status")
KINDS = ("VmRSS", "RssAnon", "RssFile")
VIEWS = 100  # of each image
MUST_MB = 300


def main() -> None:
    parser = figures.parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=256)
    asked = parser.parse_args()
    if asked.small:
        asked.rows = 20_000
    figures.hand_over(measured(asked), asked.json)


def measured(asked: argparse.Namespace) -> list[Figure]:
    case = f"{asked.rows:,} × {asked.classes} classes"
    if not STATUS.exists():
        why = "needs Linux's /proc"
        return [Figure("memory for kept answers", None, "MB", must=MUST_MB, case=case, note=why)]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, grown in (
            ("rows", in_rows(asked, Path(folder))),
            ("teacher", in_teacher(asked, Path(folder))),
        ):
            note = f"anonymous {grown['RssAnon']:.0f} MB, pages of files {grown['RssFile']:.0f} MB"
            found.append(
                Figure(
                    "memory for kept answers",
                    grown["VmRSS"],
                    "MB",
                    must=MUST_MB,
                    case=f"{name}, {case}",
                    note=note,
                )
            )
    return found


def in_rows(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """MB by kind."""
    rows = Rows(asked.rows, asked.classes, folder / "rows")
    draw = np.random.default_rng(0)
    rows.put(np.arange(2), np.ones((2, asked.classes), np.uint16))  # what the first time loads does not count
    rows.get(np.arange(2))
    growth = Growth()
    for part in cut(np.arange(asked.rows), asked.batch):
        rows.put(part, draw.integers(1, 2**16, (len(part), asked.classes), np.uint16))
        growth.look()
    for part in cut(draw.permutation(asked.rows), asked.batch):
        _, there = rows.get(part)
        if not there.all():
            raise RuntimeError(f"{(~there).sum()} rows that were written are not there")
        growth.look()
    return growth.most


def in_teacher(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """MB by kind."""
    images = -(-asked.rows // VIEWS)
    room = classroom(images, asked.classes, folder)
    teacher = room.teacher()
    assert isinstance(teacher, CachedTeacher)
    teacher.listen(())
    if teacher_lives(teacher):
        raise RuntimeError("; ".join(note.message for note in teacher.take_notes()))
    batches, draw = room.batches("train"), np.random.default_rng(0)
    some = Draw(np.arange(asked.batch) % images, np.zeros(asked.batch, np.int64))
    for batch in batches.stream([some, some]):
        teacher.signals(laid_out(room, batch))
    growth = Growth()
    draws = (Draw(part // VIEWS, part % VIEWS) for part in cut(draw.permutation(asked.rows), asked.batch))
    for batch in batches.stream(draws):
        teacher.signals(laid_out(room, batch))
        growth.look()
    nothing = torch.empty(0)
    for part in cut(draw.permutation(asked.rows), asked.batch):
        teacher.signals(Batch(Draw(part // VIEWS, part % VIEWS), nothing, nothing))  # cannot be asked again
        growth.look()
    teacher.close()
    return growth.most


def classroom(images: int, classes: int, folder: Path) -> Classroom:
    """With so many images of so many classes, and a teacher that is quickly asked."""
    draw = np.random.default_rng(0)
    size = loops.SIZE
    pixels = draw.integers(0, 256, (images, 3, size, size), np.uint8)
    labels = np.arange(images) % classes
    np.savez(
        folder / "data.npz", x_train=pixels, y_train=labels, x_test=pixels[:classes], y_test=labels[:classes]
    )
    os.environ["KD_CACHE"] = str(folder / "cache")
    data = {"dataset": "arrays", "path": str(folder / "data.npz"), "validation": 0.0, "views": VIEWS}
    document = {
        "data": {**data, "augment": "crop-flip"},
        "teacher": {"model": "cnn", "width": 2},
        "student": {"model": "cnn", "width": 2},
        "stages": [{"stage": "distill", "methods": [{"method": "kd"}]}],
        "hardware": {"device": "cpu", "cache": "disk"},
    }
    return Classroom(Recipe.from_document(document), folder)


def teacher_lives(teacher: CachedTeacher) -> bool:
    """Whether it keeps nothing of what it says."""
    return not teacher._kept


def laid_out(room: Classroom, batch: Batch) -> Batch:
    return batch._replace(inputs=room.backend.lay_out(batch.inputs))


def cut(numbers: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


class Growth:
    """The most that the process held since this was made, over what it held then: MB by kind, at the moment
    at which it held most."""

    def __init__(self) -> None:
        self._before = held()
        self.most = dict.fromkeys(KINDS, 0.0)

    def look(self) -> None:
        now = held()
        if now["VmRSS"] - self._before["VmRSS"] > self.most["VmRSS"]:
            self.most = {kind: now[kind] - self._before[kind] for kind in KINDS}


def held() -> dict[str, float]:
    """MB (10^6 bytes) by kind that this process holds in memory."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return {kind: int(lines[kind].split()[0]) * 1024 / 1e6 for kind in KINDS}


if __name__ == "__main__":
    main()

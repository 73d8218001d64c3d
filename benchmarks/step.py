"""What a step costs beside its arithmetic: augmentation, events and store, checkpoints.

    python -m benchmarks.step [--repeats 9] [--images 2048] [--steps 512]

augmentation: the time in which the batches of an epoch are made with crop and flip, less that in which the
same batches are made without, over a warm epoch of a resnet8 session; batch 64.

overhead: CPU time of a session's steps less that of a bare loop over the same batches from the same data
path, with the same student, losses and fused optimizer; one thread, a student so small that a step takes
about a millisecond, an epoch of each in turn. CPU time, so that neighbours on the machine do not count. Once
as a run is, with a report every 50 ms; once with a report after every step, which is the most there can be
and what steps of more than 50 ms have.

parts: how long some parts of a step with kept answers take where they stand, between two passes of the same
small student, whose code and numbers fill the caches; with a report after every step.

checkpoint: how long the training path of a resnet20 run is kept by a checkpoint, which is written beside it,
and how long the checkpoint says that it took.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks import figures, loops
from benchmarks.figures import Figure
from benchmarks.loops import Epochs, Pair
from kd_engine import Recipe, Session, journal, lockstep
from kd_engine import events as e
from kd_engine import session as run_loop
from kd_engine.backend import Backend
from kd_engine.cached import CachedTeacher
from kd_engine.classroom import Classroom
from kd_engine.data import plan
from kd_engine.keeper import Keeper
from kd_engine.lesson import Lesson

LABELS, TAUGHT = "labels alone", "kd, answers kept"
BATCH = 8  # of the steps whose overhead is measured
PARTS: dict[str, tuple[Any, str]] = {  # whose, and its name
    "kept answers": (CachedTeacher, "signals"),
    "losses, their sum and the hits": (Lesson, "forward"),
    "report and event": (journal.Journal, "report"),
    "seed": (lockstep, "reseed"),
    "memory layout": (Backend, "lay_out"),
    "learning rate": (run_loop, "rate_factor"),
}


def main() -> None:
    parser = figures.parser(__doc__)
    parser.add_argument("--images", type=int, default=2048, help="of the epochs whose augmentation is timed")
    parser.add_argument("--steps", type=int, default=512, help="in an epoch whose overhead is measured")
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    if asked.small:
        asked.images, asked.steps, asked.repeats = 256, 32, 2
    figures.hand_over(measured(asked), asked.json)


def measured(asked: argparse.Namespace) -> list[Figure]:
    found: list[Figure] = []
    for measure in (augmentation, overhead, parts, checkpoints):
        with tempfile.TemporaryDirectory() as folder:
            found += measure(asked, Path(folder))
    return found


def augmentation(asked: argparse.Namespace, folder: Path) -> list[Figure]:
    pair = Pair("resnet8", "resnet8", 64, asked.images, folder).write()
    makers = {
        "augmented": partial(batches_made, pair, augment=True),
        "plain": partial(batches_made, pair, augment=False),
        "session": partial(loops.ours, pair),
    }
    times = loops.in_turn(makers, asked.repeats)
    rounds = list(zip(times["augmented"], times["plain"], times["session"], strict=True))
    shares = [100 * (augmented - plain) / session for augmented, plain, session in rounds]
    whole = figures.over("", [100 * augmented / session for augmented, _, session in rounds], "%")
    return [
        figures.over(
            "augmentation's share of a step",
            shares,
            "%",
            case="resnet8, batch 64",
            must=4,
            aim=2,
            note=f"the whole data path: {figures.written(whole)}",
        )
    ]


def batches_made(pair: Pair, augment: bool) -> Epochs:
    """Seconds in which all batches of an epoch are made, by the data path of a session."""
    room = Classroom(loops.recipe(pair), pair.folder)
    batches = room.batches("train")
    for epoch in range(10**6):
        draws = plan(len(room.data.train), pair.batch, epoch, 0, room.data.views)
        started = time.perf_counter()
        for draw in draws:
            room.backend.lay_out(batches.inputs(draw.indices, draw.views if augment else None))
        if epoch:
            yield time.perf_counter() - started


def overhead(asked: argparse.Namespace, folder: Path) -> list[Figure]:
    found = []
    for taught in (False, True):
        recipe = tiny(asked.steps, taught, folder)
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            makers = {
                "bare": partial(bare, recipe, taught, folder),
                "session": partial(session, recipe, folder),
                "telling": partial(session, recipe, folder, every_step=True),
            }
            with at_once():
                times = loops.in_turn(makers, asked.repeats)
        finally:
            torch.set_num_threads(before)
        for name, case in (("session", "a report every 50 ms"), ("telling", "a report after every step")):
            more = [
                1000 * (ours - bare) / asked.steps
                for ours, bare in zip(times[name], times["bare"], strict=True)
            ]
            who = TAUGHT if taught else LABELS
            found.append(
                figures.over(
                    "events, store and session, per step",
                    more,
                    "ms",
                    case=f"{who}, {case}",
                    must=0.3,
                    aim=0.1,
                )
            )
    return found


def parts(asked: argparse.Namespace, folder: Path) -> list[Figure]:
    recipe = tiny(asked.steps, taught=True, folder=folder)
    medians: dict[str, list[float]] = {part: [] for part in PARTS}
    with at_once(), stopwatches() as took, closing(session(recipe, folder, every_step=True)) as epochs:  # type: ignore[type-var]
        next(epochs)
        for _ in range(asked.repeats):
            for seconds in took.values():
                seconds.clear()
            next(epochs)
            for part, seconds in took.items():
                medians[part].append(1e6 * statistics.median(seconds))
    return [figures.over("part of a step, where it stands", medians[part], "µs", case=part) for part in PARTS]


@contextmanager
def stopwatches() -> Iterator[dict[str, list[float]]]:
    """Seconds of each call of the PARTS, as they come."""
    took: dict[str, list[float]] = {part: [] for part in PARTS}
    before = {part: getattr(owner, name) for part, (owner, name) in PARTS.items()}

    def timed(part: str) -> Any:
        work, seconds = before[part], took[part]

        def call(*args: Any, **more: Any) -> Any:
            started = time.perf_counter()
            try:
                return work(*args, **more)
            finally:
                seconds.append(time.perf_counter() - started)

        return call

    try:
        for part, (owner, name) in PARTS.items():
            setattr(owner, name, timed(part))
        yield took
    finally:
        for part, (owner, name) in PARTS.items():
            setattr(owner, name, before[part])


def tiny(steps: int, taught: bool, folder: Path) -> Recipe:
    """Of a student with two channels, on one thread; no augmentation."""
    pair = Pair("resnet8", "resnet8", BATCH, BATCH * steps, folder).write()
    document = loops.recipe(pair).document()
    document["student"] = {"model": "cnn", "width": 2}
    document["data"] |= {"augment": "none", "views": 1}
    document["hardware"] |= {"threads": 1, "cache": "memory"}
    if not taught:
        del document["teacher"]
        stage = {"stage": "train", "epochs": 1000, "batch_size": BATCH, "snapshots": False}
        document["stages"] = [stage]
    return Recipe.from_document(document)


def session(recipe: Recipe, folder: Path, every_step: bool = False) -> Epochs:
    """CPU seconds of the steps of an epoch, up to its last report."""
    with closing(iter(Session(recipe, folder / "runs"))) as events:
        for event in events:
            if isinstance(event, e.CheckpointSaved):
                break
        for epoch in range(10**6):
            started = time.process_time()
            with reports_after_every_step() if every_step else _as_it_is():
                next(event for event in events if isinstance(event, e.EpochDone))
            took = time.process_time() - started
            next(event for event in events if isinstance(event, e.CheckpointSaved))
            if epoch:  # in the first one the teacher is asked
                yield took


def bare(recipe: Recipe, taught: bool, folder: Path) -> Epochs:
    """CPU seconds of the same learning without a session; the teacher's answers lie in a tensor."""
    room = Classroom(recipe, folder)
    batches, student = room.batches("train"), room.backend.place(room.student(0).module).train()
    soft = torch.randn(len(room.data.train), len(room.data.classes))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)
    for epoch in range(10**6):
        started = time.process_time()
        for draw in plan(len(room.data.train), BATCH, epoch, 0):
            x, y = batches(*draw)
            logits = student(room.backend.lay_out(x))
            loss = F.cross_entropy(logits, y)
            if taught:
                theirs = F.log_softmax(soft[torch.from_numpy(draw.indices)] / 4, 1)
                kd = F.kl_div(F.log_softmax(logits / 4, 1), theirs, reduction="batchmean", log_target=True)
                loss = 0.1 * loss + 0.9 * 16 * kd
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if epoch:
            yield time.process_time() - started


@contextmanager
def reports_after_every_step() -> Iterator[None]:
    before, journal.REPORT_S = journal.REPORT_S, 0.0
    try:
        yield
    finally:
        journal.REPORT_S = before


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def checkpoints(asked: argparse.Namespace, folder: Path) -> list[Figure]:
    pair = Pair("resnet8", "resnet20", 64, min(asked.images, 256), folder).write()
    told: list[float] = []
    with waiting() as held, closing(iter(Session(loops.recipe(pair), folder / "runs"))) as events:
        while len(told) < asked.repeats + 1:
            saved = next(event for event in events if isinstance(event, e.CheckpointSaved))
            told.append(saved.ms)
    case = "resnet20"
    return [
        figures.over("one checkpoint", told[1:], "ms", case=case, must=50),
        figures.over(
            "one checkpoint, as long as training waits for it",
            [1000 * seconds for seconds in held[1:]],
            "ms",
            case=case,
            must=50,
            note="written beside the training; with the weights for others",
        ),
    ]


@contextmanager
def waiting() -> Iterator[list[float]]:
    """Seconds for which the training path hands over a checkpoint, and then waits for it: one by one."""
    held: list[float] = []
    begin, ask = journal.Journal.begin_checkpoint, journal.Journal.checkpointed

    def timed_begin(self: journal.Journal, *args: Any) -> None:
        started = time.perf_counter()
        begin(self, *args)
        held.append(time.perf_counter() - started)

    def timed_ask(self: journal.Journal, wait: bool) -> Any:
        started = time.perf_counter()
        told = ask(self, wait)
        if held:
            held[-1] += time.perf_counter() - started
        return told

    journal.Journal.begin_checkpoint = timed_begin  # type: ignore[method-assign]
    journal.Journal.checkpointed = timed_ask  # type: ignore[method-assign]
    try:
        yield held
    finally:
        journal.Journal.begin_checkpoint = begin  # type: ignore[method-assign]
        journal.Journal.checkpointed = ask  # type: ignore[method-assign]


@contextmanager
def at_once() -> Iterator[None]:
    """Checkpoints are written before the next step begins: no epoch has to do with another's."""
    begin = Keeper.begin

    def begin_and_wait(self: Keeper[Any], work: Any) -> None:
        begin(self, work)
        if self._work is not None:
            self._work.exception()  # returns when it is done

    Keeper.begin = begin_and_wait  # type: ignore[method-assign]
    try:
        yield
    finally:
        Keeper.begin = begin  # type: ignore[method-assign]


if __name__ == "__main__":
    main()

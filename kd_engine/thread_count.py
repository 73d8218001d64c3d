"""How many CPU threads a run takes: a few steps with each number, measured once a machine and kept.

Another number of threads adds up in another order, which changes the last bits of every number. So a choice
is kept: what was measured first holds on this machine, also for a run that would measure otherwise today.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import nn

from kd_engine import paths
from kd_engine.backend import Backend, random_kept, set_threads, threads_kept
from kd_engine.cache import key_of
from kd_engine.classroom import Classroom
from kd_engine.data import plan
from kd_engine.disk import replacing
from kd_engine.errors import StoreError
from kd_engine.store import ENVIRONMENT, RunFolder
from kd_engine.teacher import Model

FILE = "threads.json"
LONG = 500  # steps of a run from which on it pays
CHOSEN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # who set one of these knows better
CLEAR = 0.95  # torch's own number stays, unless another takes less than this share of its time
HOPELESS = 2.0  # so many times the shortest: with fewer threads still, a step only takes longer
FIRST_S = 5.0  # for each number once: no further one begins after
ROUNDS = 3  # of a step with each number,
LIMIT_S = 1.5  # where they take no longer,
BUDGET_S = 0.3  # and more where they are as short as that
CALM = 0.9  # of the time of a step on one thread is a core's: with less, others want the cores
CALM_S = 0.05  # for which that is looked at, or one step
PATIENCE_S = 10.0  # for another process that measures

log = logging.getLogger("kd_engine")
Step = Callable[[], object]


@dataclass(frozen=True)
class Choice:
    """What was chosen. threads: that a student takes. ms: of a step by number of threads, milliseconds; empty
    where the machine was too busy to measure. kept: it was measured before. students: that learn at the same
    time."""

    threads: int
    ms: Mapping[int, float]
    kept: bool = False
    students: int = 1

    @property
    def total(self) -> int:
        """Threads of the run: as many for each of its students, if there are so many."""
        return min(max(self.ms, default=self.threads), self.threads * self.students)

    def __str__(self) -> str:
        if self.students == 1:
            return self._why
        return f"{self._why} Of {self.students} students at a time: {self.total} in all."

    @property
    def _why(self) -> str:
        if not self.ms:
            return f"{_number(self.threads)}, torch's own choice: the machine is too busy to measure another."
        told = ", ".join(
            f"{count} ({ms:{',.0f' if ms >= 100 else '.3g'}} ms{' a step' if i == 0 else ''})"
            for i, (count, ms) in enumerate(self._sorted)
        )
        before = ", as measured before on this machine" if self.kept else ""
        if self.threads == min(self.ms, key=lambda count: self.ms[count]):
            return f"{_number(self.threads)}: the fastest of {told}{before}."
        return f"{_number(self.threads)}, torch's own choice: none is clearly faster of {told}{before}."

    @property
    def values(self) -> dict[str, Any]:
        """Of the notice that tells it."""
        ms = {str(count): round(ms, 3) for count, ms in self._sorted}
        return {"threads": self.total, "ms": ms, "kept": self.kept}

    @property
    def _sorted(self) -> list[tuple[int, float]]:
        return sorted(self.ms.items())


def choose(room: Classroom, student: Model, students: int = 1) -> Choice | None:
    """How many CPU threads the runs of a recipe take; None where nothing is to be chosen, or it does not pay.

    student: of the first stage; it stays as it is, and so do the number of threads in force and the state of
    the generators. students: that learn at the same time, at most.
    """
    most = torch.get_num_threads()
    if not _open(room, most):
        return None
    steps = _steps(room)
    stage = steps.index(max(steps))
    batch_size = min(room.recipe.stages[stage].batch_size, len(room.data.train))
    section, size = room.section(stage), room.data.size
    key = key_of(*_machine(most), section.model, sorted(section.more.items()), size, batch_size)

    def measured() -> Choice:
        chosen = student if section == room.section(0) else room.student(stage)
        step = training_step(chosen.module, room.backend, batch_size, size)
        with random_kept():
            if not calm(step):
                return Choice(most, {})
            ms = measure(step, candidates(most))
        return Choice(fastest(ms), ms)

    about = {"model": section.model, **section.more, "image_size": size, "batch_size": batch_size}
    return replace(_memoised(key, measured, about, most), students=students)


def of_run(run: RunFolder) -> int | None:
    """How many a stored run had, where that is known."""
    threads = (run.read_json(ENVIRONMENT) or {}).get("threads")
    return threads if isinstance(threads, int) else None


def honour(wanted: int | None) -> None:
    """Take as many threads as a run had before, unless that is more than this machine has cores."""
    if wanted is not None and 1 <= wanted <= max(_cores(), torch.get_num_threads()):
        set_threads(wanted)


# -- the choice --------------------------------------------------------------------------------------------


def candidates(most: int) -> list[int]:
    """The powers of two below `most`, and that number itself; in order."""
    return [2**power for power in range(math.ceil(math.log2(most)))] + [most]


def fastest(ms: Mapping[int, float]) -> int:
    """The number of threads with which a step takes the shortest time; the largest, which is torch's own,
    unless another is clearly faster."""
    most = max(ms)
    best = min(ms, key=lambda count: ms[count])
    return best if ms[best] < CLEAR * ms[most] else most


def measure(step: Step, counts: Sequence[int]) -> dict[int, float]:
    """Milliseconds that a step takes by number of threads, medians. Long steps are measured once; numbers
    that there is no time for, or no hope, are left out. The largest is always there."""
    taken: dict[int, list[float]] = {}
    spent, rounds = 0.0, 0
    going = sorted(counts, reverse=True)
    with threads_kept():
        while not rounds or spent * (rounds + 1) / rounds <= (LIMIT_S if rounds < ROUNDS else BUDGET_S):
            for count in tuple(going):
                if count not in taken and spent > FIRST_S:
                    break
                set_threads(count)
                spent += seconds(step)  # threads begin, and memory is there
                taken.setdefault(count, []).append(seconds(step))
                spent += taken[count][-1]
                if not rounds and taken[count][0] > HOPELESS * min(first for first, *_ in taken.values()):
                    going = going[: going.index(count)]
                    break
            rounds += 1
    return {count: 1000 * statistics.median(taken[count]) for count in sorted(taken)}


def calm(step: Step) -> bool:
    """Whether there is a core for us alone: else what is measured now would hold for ever, and be wrong."""
    with threads_kept():
        set_threads(1)
        step()  # memory is there
        began, worked = time.perf_counter(), time.process_time()
        while True:
            step()
            took = time.perf_counter() - began
            if took > CALM_S:
                return time.process_time() - worked > CALM * took


def seconds(step: Step) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def training_step(module: nn.Module, backend: Backend, batch_size: int, size: int) -> Step:
    """One like those of training, forward and backward, by a copy of `module`: nothing of it is changed.

    The images are no zeros: BatchNorm divides by the spread of what it sees, and gradients would become no
    numbers.
    """
    own = copy.deepcopy(module).train()
    images = torch.linspace(-1, 1, batch_size * 3 * size * size, device=backend.device)
    inputs = backend.lay_out(images.reshape(batch_size, 3, size, size))

    def step() -> None:
        own.zero_grad(set_to_none=True)
        own(inputs).square().mean().backward()

    return step


# -- when --------------------------------------------------------------------------------------------------


def _open(room: Classroom, most: int) -> bool:
    """Whether the number of threads is left to us, matters, and pays to be measured."""
    if room.recipe.hardware.threads is not None or room.backend.device.type != "cpu" or most == 1:
        return False
    return not any(os.environ.get(name) for name in CHOSEN) and sum(_steps(room)) >= LONG


def _steps(room: Classroom) -> list[int]:
    """By stage."""
    samples = len(room.data.train)
    return [stage.epochs * len(plan(samples, stage.batch_size, 0, 0)) for stage in room.recipe.stages]


def _machine(most: int) -> tuple[object, ...]:
    """All of it that the fastest number can depend on."""
    return torch.__version__, torch.backends.cpu.get_cpu_capability(), os.cpu_count(), _cores(), most


def _cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# -- what is kept ------------------------------------------------------------------------------------------


def _memoised(key: str, measured: Callable[[], Choice], about: Mapping[str, Any], most: int) -> Choice:
    """What is kept under `key`, or what is measured now, and kept where the disk allows."""
    file = paths.cache() / FILE
    if (found := _choice(_read(file), key, most)) is not None:
        return found
    with _alone(file) as alone:  # who measures at the same time as others measures them, too
        kept = _read(file, tell=True)
        if (found := _choice(kept, key, most)) is not None:
            return found
        choice = measured()
        if alone and choice.ms:
            _keep(file, {**kept, key: {"threads": choice.threads, "ms": choice.values["ms"], "of": about}})
    return choice


@contextmanager
def _alone(file: Path) -> Iterator[bool]:
    """Nobody else changes `file` meanwhile; False where that cannot be had."""
    lock = FileLock(file.with_suffix(".lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=PATIENCE_S)
    except (OSError, NotImplementedError) as refused:  # Timeout is an OSError; not every disk knows locks
        log.warning("%s: the number of CPU threads is not kept: %s", file, refused)
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _read(file: Path, *, tell: bool = False) -> dict[str, Any]:
    """By key; nothing where there is no such file, or it cannot be read: `tell` of that in the log."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(kept, dict):
            return kept
        why = "not what was written"
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        why = str(error)
    if tell:
        log.warning("%s: cannot be read (%s); the number of CPU threads is measured anew", file, why)
    return {}


def _choice(kept: Mapping[str, Any], key: str, most: int) -> Choice | None:
    """What stands there, if it can be meant."""
    try:
        threads = int(kept[key]["threads"])
        ms = {int(count): float(value) for count, value in kept[key]["ms"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return Choice(threads, ms, kept=True) if 1 <= threads <= most and threads in ms else None


def _keep(file: Path, kept: Mapping[str, Any]) -> None:
    try:
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    except StoreError as refused:
        log.warning("the number of CPU threads is not kept: %s", refused)


def _number(threads: int) -> str:
    return f"{threads} CPU thread{'' if threads == 1 else 's'}"

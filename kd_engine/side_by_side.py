"""Train several students at the same time, each on its share of the CPU's threads.

A small network gains little from a second thread: two students on a thread each are done before both are, one
after the other, on two. Each has the numbers that it has on so many threads, whoever trains beside it. What
touches something that the whole process shares (torch's random numbers, or which kernels attention takes)
is done alone.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch
from torch import nn

from kd_engine.backend import Backend, random_kept
from kd_engine.errors import KdError
from kd_engine.registry import find
from kd_engine.stages import Learner

T = TypeVar("T")


class SideBySide:
    """Those named `names` work at the same time and share `threads` CPU threads evenly; nobody does where
    that is one name or one thread. Close it."""

    def __init__(self, names: Sequence[str] = (), threads: int = 1) -> None:
        workers = min(len(names), threads)
        self.names = tuple(names) if workers > 1 else ()
        self._workers = max(1, workers)
        self._pool = ThreadPoolExecutor(workers, "kd-student") if self.names else None
        if self._pool is None:
            return
        all_there = threading.Barrier(workers + 1, timeout=60)  # for those who wait where others cannot begin

        def begin() -> None:
            torch.get_num_threads()  # the first call of any kind gives a thread the process's number
            torch.set_num_threads(threads // workers)  # this thread's, and that of threads yet to begin
            all_there.wait()

        for _ in self.names[:workers]:
            self._pool.submit(begin)
        all_there.wait()
        torch.set_num_threads(threads)  # here nothing has changed; for threads yet to begin it has

    def do(self, tasks: Mapping[str, Callable[[], T]]) -> dict[str, T]:
        """What the task of each gives, in order. Those who are not `names` go first, one by one.

        Where one of `names` is left over, it has all threads. Raises what the first one raised, when all have
        ended. KdError when random numbers were drawn at the same time: who got which would be chance.
        """
        beside = [name for name in tasks if name in self.names]
        if len(beside) % self._workers == 1:
            beside.pop()
        done = {name: task() for name, task in tasks.items() if name not in self.names}
        done |= self._at_once({name: tasks[name] for name in beside})
        return {name: done[name] if name in done else task() for name, task in tasks.items()}

    def _at_once(self, tasks: Mapping[str, Callable[[], T]]) -> dict[str, T]:
        if self._pool is None or not tasks:
            return {}
        before = torch.default_generator.get_state()
        begun = {name: self._pool.submit(task) for name, task in tasks.items()}
        wait(begun.values())
        done = {name: future.result() for name, future in begun.items()}
        if not torch.equal(before, torch.default_generator.get_state()):
            raise KdError(
                "students that learn at the same time drew random numbers: who got which would be chance.",
                "Set hardware.side_by_side to false; a method that draws should say so (`alone = True`).",
            )
        return done

    def close(self) -> None:
        """Idempotent."""
        if self._pool is not None:
            self._pool.shutdown()


def companions(learners: Sequence[Learner], module: nn.Module, size: int, backend: Backend) -> list[str]:
    """The names of those who can learn at the same time; empty where there are not two of them. module: the
    student that they all are, which stays as it is; size: of its images, in pixels."""
    if len(learners) < 2 or not backend.side_by_side or draws(module, size):
        return []
    found = [learner.name for learner in learners if not _alone(learner)]
    return found if len(found) > 1 else []


def draws(module: nn.Module, size: int) -> bool:
    """Whether a model takes random numbers while it trains, as with dropout: looked at with a copy."""
    own = copy.deepcopy(module).train()
    images = torch.linspace(-1, 1, 2 * 3 * size * size).reshape(2, 3, size, size)
    with random_kept(), torch.no_grad():
        before = torch.default_generator.get_state()
        own(images)
        return not torch.equal(before, torch.default_generator.get_state())


def _alone(learner: Learner) -> bool:
    return any(find("methods", section.method).alone for section in learner.methods)

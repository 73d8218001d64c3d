"""Write checkpoints beside the training: one at a time, told when they are on the disk.

The one who trains hands over a copy and goes on; before anything that depends on the checkpoint happens (a
command, a change, a pause, the next checkpoint, the end) it asks for the outcome, and waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Keeper(Generic[T]):
    """Works in a thread of its own, which there is as long as there is something to keep."""

    def __init__(self) -> None:
        self._work: Future[T] | None = None

    def begin(self, work: Callable[[], T]) -> None:
        """Let it be done. RuntimeError when nobody has asked for the outcome of the work before."""
        if self._work is not None:
            raise RuntimeError("the outcome of the last work was not asked for")
        self._work = Future()
        threading.Thread(target=_do, args=(work, self._work), name="kd-keeper").start()

    def outcome(self, wait: bool) -> T | None:
        """What the work gave, once; None when there is none, or, without waiting, none yet. Raises what it
        raised."""
        if self._work is None or not (wait or self._work.done()):
            return None
        work, self._work = self._work, None
        return work.result()


def _do(work: Callable[[], T], outcome: Future[T]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # whatever it is: who asks for the outcome hears of it
        outcome.set_exception(error)

"""Time loops beside each other, each in a process of its own that is set up as its users' processes are.

How threads wait and what becomes of freed memory is settled for a whole process, and early. So what `kd run`
settles for its own must hold for our sessions only, and not for the loops that they are compared with.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from kd_engine.allocation import keep_freed
from kd_engine.threads import CHOSEN, wait_asleep

SETTLE_S = 0.05  # for threads of the one before, which still spin when its epoch is over


@dataclass(frozen=True)
class Apart:
    """What yields the seconds of one epoch after the other, and where: in a process like those of `kd run`
    (ours), or in Python's. Both can be settled one by one. make: goes to the process by pickle."""

    make: Callable[[], Generator[float]]
    ours: bool = False
    waits: Mapping[str, str] | None = None  # what the environment says of how threads wait
    keeps: bool | None = None  # whether freed memory stays

    def environ(self) -> dict[str, str]:
        """Of the process."""
        made = {name: value for name, value in os.environ.items() if name not in CHOSEN}
        if self.waits is not None:
            return made | dict(self.waits)
        if self.ours:
            wait_asleep(made)
        return made


def in_turn(loops: Mapping[str, Apart], epochs: int) -> dict[str, list[float]]:
    """Seconds: one epoch of each, then the next of each. RuntimeError where one of them broke off."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    with ExitStack() as stack:
        going = {name: stack.enter_context(_process(loop)) for name, loop in loops.items()}
        for process in going.values():
            _told(process)  # its imports are over: they would be in the way of others
        for _ in range(epochs):
            for name, process in going.items():
                time.sleep(SETTLE_S)
                process.send(None)
                times[name].append(float(_told(process)))  # type: ignore[arg-type]
    return times


@contextmanager
def _process(loop: Apart) -> Iterator[Connection]:
    """It moves by an epoch for whatever is sent to it, and says how long that took."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(loop, theirs, multiprocessing.get_start_method()))
    with _environment(loop.environ()):
        process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _told(process: Connection) -> object:
    try:
        said = process.recv()
    except EOFError:
        raise RuntimeError("the process of a loop ended without a word") from None
    if isinstance(said, str):
        raise RuntimeError(said)
    return said


def _serve(loop: Apart, asked: Connection, starts: str) -> None:
    """starts: how its own processes, the loaders of the reference, begin: not as this one did."""
    multiprocessing.set_start_method(starts, force=True)
    if loop.ours if loop.keeps is None else loop.keeps:
        keep_freed()
    with asked, closing(loop.make()) as epochs, suppress(EOFError, BrokenPipeError):  # nobody asks any more
        asked.send(None)
        while True:
            asked.recv()
            try:
                seconds = next(epochs)
            except Exception:
                seconds = traceback.format_exc()
            asked.send(seconds)


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(wanted)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)

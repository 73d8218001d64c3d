"""Repeat a recipe over seeds: keep the runs that are done, go on with those broken off, make the rest.

Every run is made by an engine in a child process of its own, several at once where asked: so the figures do
not depend on how many there are. Imports no torch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal

from filelock import FileLock, Timeout

from kd_engine import events as e
from kd_engine.bench_plan import Cell, Plan
from kd_engine.commands import Stop
from kd_engine.errors import KdError, StoreError
from kd_engine.events import STUDENT, Event
from kd_engine.remote import Engine, Gone, LocalEngine, Message
from kd_engine.store import LOCK, RunFolder, Store

BLAMED = ("recipe", "data", "weights", "setup")  # codes of a failed run that every other seed would meet, too
LISTEN_S = 0.1
PATIENCE_S = 15.0  # of one who waits for another process to let go of a run
AGAIN = ("missing", "interrupted", "failed")  # what a second call takes up

What = Literal["kept", "started", "resumed", "epoch", "done", "nan", "failed", "stopped"]
Make = Callable[[], Engine | LocalEngine]
Stream = Generator["Progress", None, None]


@dataclass(frozen=True)
class Progress:
    """One thing that happened to the run of one seed. kept: it was done before. epochs: of a whole run.
    done, of: runs. eta_s: seconds that are left for all, where they can be told."""

    what: What
    seed: int
    run: str
    epoch: int
    epochs: int
    done: int
    of: int
    message: str = ""
    eta_s: float | None = None


@dataclass
class _Desk:
    """An engine, and whose run it makes."""

    engine: Engine | LocalEngine
    cell: Cell | None = None
    began: bool = False  # whether that run has come to its first step
    stopping: bool = False


class Bench:
    """Iterate it and it moves: one `Progress` after the other, until every seed has its run.

    jobs: runs at once. What a run fails of is written in its cell of the plan, and the others go on; what
    every run would fail of is raised (KdError).
    """

    def __init__(
        self, plan: Plan, seeds: Sequence[int], store: Store, jobs: int = 1, engine: Make = Engine
    ) -> None:
        self._plan = plan
        self._cells = [plan.cell(seed) for seed in seeds]
        self._store = store
        self._jobs = jobs
        self._engine = engine
        self._asked_to_stop = False
        self._lengths = [int(stage["epochs"]) for stage in plan.document["stages"]]
        self._epochs: dict[int, int] = {}  # that each seed's run has behind it
        self._made = 0  # epochs in this call
        self._since: float | None = None  # the first run of this call began

    def stop(self) -> None:
        """Let the runs end after their next step, and keep them. From any thread, and from signal handlers:
        it only leaves a mark."""
        self._asked_to_stop = True

    @property
    def complete(self) -> bool:
        """Whether every seed has a run that is done, or one that cannot be done."""
        return all(cell.status not in AGAIN for cell in self._cells)

    def __iter__(self) -> Stream:
        lock = FileLock(self._plan.folder / LOCK, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"{self._plan.folder}: another process works on this bench.", "Stop that one first."
            ) from None
        try:
            yield from self._look()
            yield from self._work()
        finally:
            lock.release()

    # -- what is there already -----------------------------------------------------------------------------

    def _look(self) -> Stream:
        for cell in self._cells:
            self._look_at(cell)
            if cell.status not in AGAIN:
                self._epochs[cell.seed] = sum(self._lengths)
                yield self._told("kept", cell, f"{cell.status} before")
        self._plan.save()

    def _look_at(self, cell: Cell) -> None:
        """What the store says of a cell's run, whatever the plan thinks of it."""
        run = RunFolder(self._store.root / cell.run)
        info = self._store.info(run) if cell.run else None
        if info is None:
            cell.forget()
            return
        self._plan.require_own(cell, run)
        status = info.status
        waited = time.monotonic() + PATIENCE_S
        while status == "running":
            if self._asked_to_stop or time.monotonic() > waited:
                raise StoreError(f"{cell.run}: another process is training this run.", "Stop that one first.")
            time.sleep(LISTEN_S)
            status = run.status()
        if any(isinstance(event, e.KnobChanged) for event in run.events()):
            why = "settings were changed by hand while it ran, so it is no run of this recipe"
            cell.status, cell.message = "changed", why
        elif status == "done":
            cell.status, cell.message = "done", ""
        elif cell.status != "nan":  # the same recipe would come to the same end
            if run.resumable(status):
                cell.status = "interrupted"
            else:
                cell.forget()

    # -- what is to do -------------------------------------------------------------------------------------

    def _work(self) -> Stream:
        todo = deque(cell for cell in self._cells if cell.status in AGAIN)
        desks = [_Desk(self._engine()) for _ in range(min(self._jobs, len(todo)))]
        try:
            while desks and (todo or any(desk.cell for desk in desks)):
                if self._asked_to_stop:
                    todo.clear()
                for desk in desks:
                    if desk.cell is None and todo:
                        self._begin(desk, todo.popleft())
                    if desk.cell is not None:
                        yield from self._serve(desk)
        finally:
            for desk in desks:
                desk.engine.close()

    def _begin(self, desk: _Desk, cell: Cell) -> None:
        desk.cell, desk.began, desk.stopping = cell, False, False
        desk.engine.start()
        if cell.run:
            desk.engine.resume(cell.run, self._store.root)
        else:
            desk.engine.run(self._plan.document_of(cell.seed), self._store.root)
        cell.status, cell.student, cell.message = "interrupted" if cell.run else "missing", "", ""

    def _serve(self, desk: _Desk) -> Stream:
        if self._asked_to_stop and not desk.stopping:
            desk.stopping = True
            desk.engine.send(Stop(keep=True))
        for message in desk.engine.messages(LISTEN_S):
            if desk.cell is not None:
                yield from self._hear(desk, desk.cell, message)

    def _hear(self, desk: _Desk, cell: Cell, message: Message) -> Stream:
        if isinstance(message, e.RunStarted | e.RunResumed):
            self._since = self._since or time.monotonic()
            cell.run, cell.status = message.run, "interrupted"  # what is true if we write no other word
            self._plan.save()
            resumed = isinstance(message, e.RunResumed)
            if isinstance(message, e.RunResumed):
                self._epochs[cell.seed] = sum(self._lengths[: message.stage]) + message.epoch
            yield self._told("resumed" if resumed else "started", cell)
        elif isinstance(message, e.StageStarted):
            desk.began = True
        elif isinstance(message, e.EpochDone) and message.student == STUDENT:
            self._made += 1
            self._epochs[cell.seed] = sum(self._lengths[: message.stage]) + message.epoch
            yield self._told("epoch", cell)
        elif isinstance(message, e.Notice) and message.code == "nan":
            cell.student, cell.message = str(message.values.get("student", "")), message.message
        elif isinstance(message, e.Paused) and message.why == "nan":
            cell.status = "nan"  # nobody is here to change the learning rate
            desk.engine.send(Stop(keep=True))
        elif isinstance(message, e.ENDS):
            yield self._end(desk, cell, message)
        elif isinstance(message, Gone):
            yield self._end(
                desk, cell, e.RunFailed(run=cell.run, error="engine_died", message=message.reason)
            )

    def _end(self, desk: _Desk, cell: Cell, event: Event) -> Progress:
        """Write down how a run ended."""
        desk.cell = None
        what: What = "stopped"
        if isinstance(event, e.RunDone):
            what = cell.status = "done"
        elif isinstance(event, e.RunFailed):
            if event.error in BLAMED and not desk.began:
                self._plan.save()
                raise KdError(event.message, event.hint)
            what = cell.status = "failed"
            cell.message = f"{event.message} {event.hint}".strip()
        elif cell.status == "nan":
            what = "nan"
        self._plan.save()
        return self._told(what, cell, cell.message)

    # -- words ---------------------------------------------------------------------------------------------

    def _told(self, what: What, cell: Cell, message: str = "") -> Progress:
        done = sum(other.status not in AGAIN for other in self._cells)
        epoch, epochs = self._epochs.get(cell.seed, 0), sum(self._lengths)
        return Progress(
            what, cell.seed, cell.run, epoch, epochs, done, len(self._cells), message, self._seconds_left()
        )

    def _seconds_left(self) -> float | None:
        """From the pace of this call; None before its first epoch."""
        going = [cell for cell in self._cells if cell.status in AGAIN]
        left = sum(sum(self._lengths) - self._epochs.get(cell.seed, 0) for cell in going)
        if self._since is None or not self._made or not left:
            return None
        return left * (time.monotonic() - self._since) / self._made

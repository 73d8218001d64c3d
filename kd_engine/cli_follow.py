"""Follow a run from the command line to its end: what is shown, Ctrl+C, and the exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from kd_engine import events as e
from kd_engine import report
from kd_engine.commands import Stop

if TYPE_CHECKING:
    from kd_engine.session import Session

FAILED, WRONG, INTERRUPTED = 1, 2, 130
PREPARED = ("recipe", "data", "weights", "setup")  # codes of a RunFailed that blame the request
STOPPING = "kd: stopping after this step and keeping the run; Ctrl+C again ends at once\n"


def follow(session: Session, jsonl: bool) -> None:
    """Iterate a session to its end, and leave with the exit code that tells how it ended."""
    shown = report.Lines() if jsonl else report.Progress()
    sick = started = False
    with interrupts(session.send) as asked, closing(shown):
        for event in session:
            shown.show(event)
            started = started or isinstance(event, e.StageStarted)
            if isinstance(event, e.Paused) and event.why == "nan":
                session.send(Stop(keep=True))  # nobody is here to change the learning rate
                sick = True
    if isinstance(event, e.RunDone):
        return
    if sick:
        report.problem(
            "Stopped, since nothing good would follow. Start it again with a smaller learning rate, as in "
            "--set stages.0.optimizer.lr=0.005"
        )
    elif isinstance(event, e.RunStopped) and asked:
        sys.exit(INTERRUPTED)
    elif isinstance(event, e.RunFailed) and not started and _asked_wrongly(event):
        sys.exit(WRONG)
    sys.exit(FAILED)


def _asked_wrongly(event: e.RunFailed) -> bool:
    """Whether a run that failed before its first step failed for what was asked: also for a folder of runs
    that cannot be made."""
    return event.error in PREPARED or (event.error == "store" and not event.run)


@contextmanager
def interrupts(send: Callable[[Stop], object], told: str = STOPPING) -> Iterator[list[int]]:
    """Ctrl+C and a polite kill ask for a stop, and say what comes of it; a second one ends at once. Yields
    the signals so far."""
    asked: list[int] = []

    def stop(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        send(Stop(keep=True))
        os.write(2, told.encode())  # not print: it may be what was interrupted

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

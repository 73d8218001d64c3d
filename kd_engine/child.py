"""The engine's own process, as its parent sees it: how it is started, which run is going in it, how it ended.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kd_engine import events, paths
from kd_engine.events import RunFailed, RunResumed, RunStarted
from kd_engine.threads import wait_asleep

LOG_BYTES = 1_000_000


@dataclass
class Child:
    """A child process, and which run is going in it, to be able to say which one died with it.

    run: its name, None when none is going, "" before it has one. resumable: whether it is in the store.
    dismissed: its end is nobody's concern any more.
    """

    process: subprocess.Popen[str]
    run: str | None = None
    step: int = 0
    resumable: bool = False
    dismissed: bool = False
    detached: bool = False
    listener: threading.Thread | None = None

    def begin(self, resumable: bool) -> None:
        self.run, self.step, self.resumable = "", 0, resumable

    def follow(self, event: object) -> None:
        if isinstance(event, (RunStarted, RunResumed)):
            self.run, self.resumable = event.run, True
        elif isinstance(event, events.ENDS):
            self.run = None
        self.step = getattr(event, "step", self.step)

    def write(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it just died: its listener tells
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()

    def hang_up(self) -> None:
        """No more requests."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it may be gone already
            self.process.stdin.close()

    def died(self, reason: str) -> RunFailed:
        hint = "The run can be resumed." if self.resumable else "Start the run again."
        return RunFailed(
            run=self.run or "",
            error="engine_died",
            message=reason,
            hint=hint,
            step=self.step,
            resumable=self.resumable,
        )

    def wait(self) -> str:
        """Until its end; how it ended, in words."""
        return f"The engine's process ended unexpectedly ({_ending(self.process.wait())})."


def spawn() -> subprocess.Popen[str]:
    # -P: a file named random.py in the folder where the user happens to be is none of the child's business.
    package = str(Path(__file__).parent.parent)
    places = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(places)}
    wait_asleep(environ)
    log = _log_file()
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "kd_engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log or subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=environ,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            start_new_session=os.name != "nt",  # a Ctrl+C in the terminal is for this process to handle
        )
    finally:
        if log is not None:
            log.close()  # the child has it


def _log_file() -> IO[str] | None:
    """Where the child's complaints go: engine.log in the cache, begun anew when it has grown large; None when
    that cannot be written."""
    file = paths.cache() / "engine.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        large = file.exists() and file.stat().st_size > LOG_BYTES
        log = open(file, "w" if large else "a", encoding="utf-8")  # noqa: SIM115 (closed by who asks)
        log.write(f"-- {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        log.flush()
    except OSError:
        return None
    return log


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

"""What holds for every test: no screen, one thread, folders of its own, nothing left running.

Imports neither torch nor Qt: collecting a test of neither must not pay for them.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["QT_QPA_PLATFORM"] = "offscreen"
# Sums of floats depend on how many threads share them: with one, the same bits on every machine. Networks as
# small as those of the tests lose nothing. Set before torch is imported anywhere; child processes inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

PATIENCE_S = 2.0  # a thread that was told to stop may need a moment


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cache, runs, datasets and settings lie in a temporary folder: no test sees or touches the user's."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("cache", "runs", "data"):
            patch.setenv(f"KD_{name.upper()}", str(home / name))
        patch.delenv("KD_PLUGINS", raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))  # QSettings on Linux
        if core := _qt_core():  # and elsewhere
            core.QSettings.setDefaultFormat(core.QSettings.Format.IniFormat)
            core.QSettings.setPath(
                core.QSettings.Format.IniFormat, core.QSettings.Scope.UserScope, str(home / "config")
            )
        yield home


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Fails a test after which a thread, a QThread or a child process that it started is still running."""
    before = {id(running) for running in [*threading.enumerate(), *_children()]}
    with pytest.MonkeyPatch.context() as patch:
        qthreads = _record_qthreads(patch)
        yield
    deadline = time.monotonic() + PATIENCE_S
    left = [str(t) for t in threading.enumerate() if id(t) not in before and _outlives(t, deadline)]
    left += [str(p) for p in _children() if id(p) not in before and _outlives(p, deadline)]
    left += [repr(q) for q in qthreads if _qthread_outlives(q, deadline)]
    assert not left, f"still running after the test: {', '.join(left)}"


def _outlives(running: Any, deadline: float) -> bool:
    """Whether this thread or process is there at the deadline. Qt's own threads are looked at as QThreads."""
    if isinstance(running, threading._DummyThread):
        return False
    running.join(max(0.0, deadline - time.monotonic()))
    return bool(running.is_alive())


def _children() -> list[Any]:
    multiprocessing = sys.modules.get("multiprocessing")
    return multiprocessing.active_children() if multiprocessing else []


def _qt_core() -> Any:
    return sys.modules.get("PySide6.QtCore")


def _record_qthreads(patch: pytest.MonkeyPatch) -> weakref.WeakSet[Any]:
    """All QThreads started from now on, as long as Python knows them."""
    started: weakref.WeakSet[Any] = weakref.WeakSet()
    if core := _qt_core():
        start = core.QThread.start

        def record(thread: Any, *args: Any) -> None:
            started.add(thread)
            start(thread, *args)

        patch.setattr(core.QThread, "start", record)
    return started


def _qthread_outlives(thread: Any, deadline: float) -> bool:
    from shiboken6 import isValid

    if not isValid(thread):
        return False
    return not thread.wait(max(0, round(1000 * (deadline - time.monotonic()))))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """How to have this order of the tests again; -q hides where pytest-randomly says it."""
    if config.pluginmanager.hasplugin("randomly"):
        terminalreporter.write_line(f"this order again: --randomly-seed={config.option.randomly_seed}")

"""The log takes what nobody caught, from any thread and from Qt, and tells of a crash at the next start."""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import qWarning
from pytestqt.qtbot import QtBot

from kd_gui.log import Log


@pytest.fixture
def log(qtbot: QtBot, tmp_path: Path) -> Iterator[Log]:
    made = Log()
    made.install(tmp_path / "faults.txt")
    yield made
    made.uninstall()


def test_records_land_in_the_log_with_their_level(log: Log) -> None:
    logging.getLogger("kd_engine.anything").warning("the disk is %s", "full")
    assert log.lines[-1].endswith("WARNING  the disk is full")


def test_an_uncaught_exception_is_logged_with_its_traceback_and_told(log: Log, qtbot: QtBot) -> None:
    with qtbot.waitSignal(log.failed) as told:
        try:
            raise ValueError("no such thing")
        except ValueError:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    assert told.args == ["ValueError: no such thing"]
    assert "Traceback" in log.lines[-1]


def test_an_exception_in_another_thread_is_told_too(log: Log, qtbot: QtBot) -> None:
    def fail() -> None:
        raise RuntimeError("elsewhere")

    with qtbot.waitSignal(log.failed) as told:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert told.args == ["RuntimeError: elsewhere"]


def test_what_qt_says_is_in_the_log(log: Log) -> None:
    qWarning("a layout has no parent")
    assert "Qt: a layout has no parent" in log.lines[-1]


def test_a_crash_is_told_at_the_next_start(qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "faults.txt").write_text("Fatal Python error: Segmentation fault\n")
    log = Log()
    with qtbot.waitSignal(log.failed) as told:
        log.install(tmp_path / "faults.txt")
    assert "crashed" in told.args[0]
    assert "Segmentation fault" in log.lines[-1]
    assert faulthandler.is_enabled()
    log.uninstall()


def test_a_start_after_a_quiet_end_tells_nothing(qtbot: QtBot, tmp_path: Path) -> None:
    for _ in range(2):
        log = Log()
        with qtbot.assertNotEmitted(log.failed):
            log.install(tmp_path / "faults.txt")
        log.uninstall()


def test_uninstalling_puts_the_hooks_back(qtbot: QtBot, tmp_path: Path) -> None:
    before = sys.excepthook, threading.excepthook
    log = Log()
    log.install(tmp_path / "faults.txt")
    log.uninstall()
    assert (sys.excepthook, threading.excepthook) == before

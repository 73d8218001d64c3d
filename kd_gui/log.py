"""Keep what goes wrong: log records, uncaught exceptions, Qt's own messages and crashes end in one place, in
order.

`Log` collects and tells; the window shows it and posts a notice for errors. A crash of the interpreter itself
leaves its stacks in a file, which is read at the next start."""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import IO

from PySide6.QtCore import QMessageLogContext, QObject, QtMsgType, Signal, qInstallMessageHandler

from kd_engine import paths

MOST = 2000  # lines that are kept
_LEVELS = {
    QtMsgType.QtDebugMsg: logging.DEBUG,
    QtMsgType.QtInfoMsg: logging.INFO,
    QtMsgType.QtWarningMsg: logging.WARNING,
    QtMsgType.QtCriticalMsg: logging.ERROR,
    QtMsgType.QtFatalMsg: logging.CRITICAL,
}
log = logging.getLogger("kd_gui")


class Log(QObject):
    """The last lines. `added(line)` may be sent from any thread; `failed(text)`: something nobody caught."""

    added = Signal(str)
    failed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lines: deque[str] = deque(maxlen=MOST)
        self._handler = _Handler(self)
        self._handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)-7s  %(message)s", "%H:%M:%S"))
        self._hooks = (sys.excepthook, threading.excepthook)
        self._faults: IO[str] | None = None

    @property
    def lines(self) -> list[str]:
        return list(self._lines)

    def install(self, faults: Path | None = None) -> None:
        """Listen to everything. faults: where stacks go when the interpreter crashes; default in the user's
        cache."""
        logging.getLogger().addHandler(self._handler)
        sys.excepthook = self._uncaught
        threading.excepthook = self._uncaught_in_thread
        qInstallMessageHandler(_qt_message)
        self._watch_faults(faults or paths.cache() / "faults.txt")

    def uninstall(self) -> None:
        """Put back what was there before."""
        logging.getLogger().removeHandler(self._handler)
        sys.excepthook, threading.excepthook = self._hooks
        qInstallMessageHandler(None)
        if self._faults is not None:
            faulthandler.disable()
            self._faults.close()
            self._faults = None

    def add(self, line: str) -> None:
        self._lines.append(line)
        self.added.emit(line)

    def _watch_faults(self, file: Path) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            left = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
            self._faults = open(file, "w", encoding="utf-8")  # noqa: SIM115 (stays open for a crash)
        except OSError as error:
            log.warning("crashes cannot be written down: %s", error)
            return
        faulthandler.enable(self._faults)
        if left.strip():
            log.error("the last session crashed:\n%s", left.strip())
            self.failed.emit(self.tr("The window crashed the last time. The log has the details."))

    def _uncaught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        log.critical("uncaught", exc_info=(kind, error, trace))
        self.failed.emit(f"{kind.__name__}: {error}")

    def _uncaught_in_thread(self, told: threading.ExceptHookArgs) -> None:
        error = told.exc_value if told.exc_value is not None else told.exc_type()
        self._uncaught(told.exc_type, error, told.exc_traceback)


class _Handler(logging.Handler):
    def __init__(self, kept: Log) -> None:
        super().__init__(logging.INFO)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.add(self.format(record))


def _qt_message(kind: QtMsgType, context: QMessageLogContext, message: str) -> None:
    log.log(_LEVELS.get(kind, logging.WARNING), "Qt: %s", message)

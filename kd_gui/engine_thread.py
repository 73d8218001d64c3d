"""Carry what the engine says to the GUI thread: a worker drains it into one queue, timers hand it on in
order.

Everything goes through the one queue, so that nothing overtakes anything. Frequent reports wait for the 50 ms
timer; a rare fact (an answer, an end, a pause) wakes the GUI thread at once. Commands do not pass here: the
engine's own methods may be called from any thread."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from PySide6.QtCore import QObject, Qt, QThread, QTimer, Signal, Slot

from kd_engine.commands import Command
from kd_engine.events import StepDone
from kd_engine.remote import Gone, Message

CURVES_MS = 50
TEXT_MS = 250
POLL_S = 0.1  # how long the worker may take to see that it shall end
MOST_AT_ONCE = 2000  # messages in one turn of the event loop: folding so many takes a few milliseconds

log = logging.getLogger(__name__)


class Engine(Protocol):
    """The face that `kd_engine.remote.Engine` and `LocalEngine` share."""

    def start(self) -> None: ...
    def run(self, document: dict[str, Any], runs: Any) -> None: ...
    def resume(self, run: Any, runs: Any) -> None: ...
    def send(self, command: Command) -> None: ...
    def ask(self, what: str, **values: Any) -> str: ...
    def detach(self) -> None: ...
    def leave(self) -> None: ...
    def close(self, timeout: float = 10.0) -> None: ...
    def messages(self, timeout: float) -> Sequence[Message]: ...


class _Worker(QObject):
    """Lives in the thread; `drain` returns only when told to."""

    woke = Signal()
    done = Signal()

    def __init__(self, engine: Engine, queue: deque[Message]) -> None:
        super().__init__()
        self._engine = engine
        self._queue = queue
        self.enough = threading.Event()

    @Slot()
    def drain(self) -> None:
        while not self.enough.is_set():
            try:
                messages = self._engine.messages(POLL_S)
            except (
                Exception
            ) as error:  # the border: what went wrong becomes a message, the traceback is logged
                log.exception("the engine cannot be heard")
                messages = [Gone(f"{type(error).__name__}: {error}")]
                self.enough.set()
            self._queue.extend(messages)
            if any(not isinstance(message, StepDone) for message in messages):
                self.woke.emit()
        self.done.emit()


class EngineThread(QObject):
    """Starts with `start`, ends with `stop`; between them `take` is called with what arrived, on the GUI
    thread.

    text_tick: four times a second while something is going on, for words and figures that nobody reads
    faster."""

    text_tick = Signal()

    def __init__(
        self, engine: Engine, take: Callable[[Sequence[Message]], None], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._take = take
        self._queue: deque[Message] = deque()
        self._thread = QThread(self, objectName="engine")
        self._worker = _Worker(engine, self._queue)  # no parent: it moves to the thread
        self._worker.moveToThread(self._thread)
        self._thread.started.connect(self._worker.drain)
        self._worker.woke.connect(self.deliver, Qt.ConnectionType.QueuedConnection)
        self._curves = QTimer(self, interval=CURVES_MS)
        self._curves.timeout.connect(self.deliver)
        self._text = QTimer(self, interval=TEXT_MS)
        self._text.timeout.connect(self.text_tick)

    def start(self) -> None:
        self._thread.start()
        self._curves.start()
        self._text.start()

    def stop(self) -> None:
        """End the worker and the timers. Idempotent; what had not been delivered yet is dropped."""
        self._curves.stop()
        self._text.stop()
        self._worker.enough.set()
        self._thread.quit()  # called directly: a queued one would wait for the thread that we wait for
        self._thread.wait()
        self._queue.clear()

    @property
    def running(self) -> bool:
        return self._thread.isRunning()

    @Slot()
    def deliver(self) -> None:
        """Hand on what has arrived. Called by the timer and on rare facts; a test may call it too."""
        waiting = min(len(self._queue), MOST_AT_ONCE)
        if waiting:
            self._take([self._queue.popleft() for _ in range(waiting)])

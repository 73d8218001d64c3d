"""Read files off the GUI thread, one after the other; what was read comes back as a signal in the GUI thread.

The thread lives only while there is something to read: nothing is left to join when the window closes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from PySide6.QtCore import QObject, Signal

from kd_engine.errors import KdError


class Reading(QObject):
    """`done(tag, result)`: in the order of the asking; result is what `read` returned, or the KdError it
    raised."""

    done = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lock = threading.Lock()
        self._waiting: deque[tuple[object, Callable[[], object]]] = deque()
        self._busy = False

    def ask(self, tag: object, read: Callable[[], object]) -> None:
        """Call `read` elsewhere, soon. It must not touch Qt."""
        with self._lock:
            self._waiting.append((tag, read))
            if self._busy:
                return
            self._busy = True
        threading.Thread(target=self._work, name="reading", daemon=True).start()

    def forget(self) -> None:
        """Drop what has not been read yet. What is being read still comes: tell it by its tag."""
        with self._lock:
            self._waiting.clear()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._busy = False
                    return
                tag, read = self._waiting.popleft()
            result: object
            try:
                result = read()
            except KdError as error:
                result = error
            try:
                self.done.emit(tag, result)
            except RuntimeError:  # the window was closed meanwhile, and this object with it
                return

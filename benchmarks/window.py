"""How quickly does the window answer while a run trains, and what does watching cost the training?

    python -m benchmarks.window [--seconds 60] [--recipe quickstart] [--json FILE]

Opens the real window (offscreen unless a platform is set), starts the recipe with more epochs than fit, and
posts an event to the GUI thread every 10 ms from another thread: the time until it is handled is the
latency of the event loop. Then the same recipe runs without a window for as long, and both rates are
compared. Each figure is of one run.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QCoreApplication, QEvent, QObject, QTimer

from benchmarks import figures
from benchmarks.figures import Figure
from kd_engine import commands, remote
from kd_engine.events import STUDENT, StepDone
from kd_engine.recipe import read_document, set_at

ASK = QEvent.Type(QEvent.registerEventType())
EVERY_S = 0.01
WARM_S = 3.0  # after the first step, before anything is counted


class Ask(QEvent):
    def __init__(self) -> None:
        super().__init__(ASK)
        self.posted = time.perf_counter()


class Ear(QObject):
    """Lives in the GUI thread and notes how late each question was heard."""

    def __init__(self) -> None:
        super().__init__()
        self.late_ms: list[float] = []

    def event(self, event: QEvent) -> bool:
        if isinstance(event, Ask):
            self.late_ms.append((time.perf_counter() - event.posted) * 1000)
            return True
        return super().event(event)


class Rate:
    """Images a second over the reports of a run, after a warm-up: the median of what the reports say."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.rates: list[float] = []

    def hear(self, event: object) -> None:
        if isinstance(event, StepDone) and event.student == STUDENT:
            self.began = self.began or time.monotonic()
            if self.warm:
                self.rates.append(event.samples_per_s)

    @property
    def warm(self) -> bool:
        return self.began is not None and time.monotonic() - self.began > WARM_S


class HeardEngine(remote.Engine):
    """An engine in a child process whose reports are counted on their way to whoever reads them."""

    def __init__(self, rate: Rate) -> None:
        super().__init__()
        self._rate = rate

    def messages(self, timeout: float = 0.0) -> list[remote.Message]:
        found = super().messages(timeout)
        for message in found:
            self._rate.hear(message)
        return found


def endless(name: str) -> dict[str, object]:
    document = read_document(name)
    set_at(document, "stages.0.epochs", 10_000)
    set_at(document, "name", "window benchmark")
    return document


def with_window(recipe: str, seconds: float, runs: Path) -> tuple[list[float], float]:
    """Latencies in ms, and the median training rate, with the window open and drawing."""
    from kd_gui.app import application
    from kd_gui.log import Log
    from kd_gui.main_window import MainWindow
    from kd_gui.state.studio import Studio

    app = application()
    rate = Rate()
    studio = Studio(HeardEngine(rate), runs, app)
    window = MainWindow(studio, Log(app))
    studio.draft.load_document(endless(recipe), recipe)
    window.show()
    studio.start()
    studio.became_ready.connect(lambda: QTimer.singleShot(1500, studio.distill))
    ear, over = Ear(), threading.Event()

    def ask() -> None:
        while not over.is_set():
            if rate.warm:
                QCoreApplication.postEvent(ear, Ask())
            time.sleep(EVERY_S)

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    check = QTimer(interval=100)
    check.timeout.connect(lambda: app.exit() if len(ear.late_ms) * EVERY_S >= seconds else None)
    check.start()
    app.exec()
    over.set()
    asker.join()
    studio.shut_down()
    window.close()
    return ear.late_ms, statistics.median(rate.rates)


def without_window(recipe: str, seconds: float, runs: Path) -> float:
    """The median training rate in a child process that nobody watches."""
    rate = Rate()
    engine = HeardEngine(rate)
    engine.start()
    engine.run(endless(recipe), runs)
    until = None
    while until is None or time.monotonic() < until:
        engine.messages(timeout=0.5)
        if rate.warm and until is None:
            until = time.monotonic() + seconds
    engine.send(commands.Stop(keep=False))
    engine.close()
    return statistics.median(rate.rates)


def main() -> None:
    parser = figures.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--recipe", default="quickstart")
    asked = parser.parse_args()
    seconds = 3.0 if asked.small else asked.seconds
    with tempfile.TemporaryDirectory() as runs:
        late, watched = with_window(asked.recipe, seconds, Path(runs))
        alone = without_window(asked.recipe, seconds, Path(runs))
    figures.hand_over(summed_up(late, watched, alone), asked.json)


def summed_up(late_ms: Sequence[float], watched: float, alone: float) -> list[Figure]:
    """watched, alone: images a second with the window and without."""
    p50, p99 = np.percentile(late_ms, [50, 99])
    case, asked = "while a run trains", f"{len(late_ms):,} questions, median {p50:.1f} ms"
    rates = f"{watched:,.0f} images/s with the window, {alone:,.0f} without"
    share = 100 * watched / alone
    return [
        Figure("event loop, 99th percentile", float(p99), "ms", must=16, case=case, note=asked),
        Figure("event loop, worst", max(late_ms), "ms", must=50, case=case),
        Figure("training with the window open", share, "%", must=92, aim=97, better="more", note=rates),
    ]


if __name__ == "__main__":
    main()

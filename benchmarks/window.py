"""How quickly does the window answer while a run trains, and what does watching cost the training?

    python -m benchmarks.window [--seconds 20] [--repeats 5] [--recipe quickstart]

Opens the real window (offscreen unless a platform is set), starts the recipe with more epochs than fit, and
posts an event to the GUI thread every 10 ms from another thread: the time until it is handled is the
latency of the event loop. Then nothing is posted, for a hundred questions a second are work too, and the
training's rate is taken for as long again. Then the same recipe runs without a window for as long, and both
rates are compared; so again and again.
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
from benchmarks.figures import Figure, over
from kd_engine import commands, remote
from kd_engine.document import read_document, set_at
from kd_engine.events import STUDENT, StepDone

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
    """Images a second over the reports of a run, from when it is asked for: the median of what they say."""

    def __init__(self) -> None:
        self.began: float | None = None
        self._since: float | None = None
        self._rates: list[float] = []

    def hear(self, event: object) -> None:
        if isinstance(event, StepDone) and event.student == STUDENT:
            self.began = self.began or time.monotonic()
            if self._since is not None:
                self._rates.append(event.samples_per_s)

    @property
    def warm(self) -> bool:
        return self.began is not None and time.monotonic() - self.began > WARM_S

    def count(self) -> None:
        """From now on."""
        self._since = self._since or time.monotonic()

    @property
    def counted_s(self) -> float:
        return 0.0 if self._since is None else time.monotonic() - self._since

    @property
    def median(self) -> float:
        return statistics.median(self._rates)


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
    """Latencies in ms, and then the median training rate, with the window open and drawing."""
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

    def look() -> None:
        if len(ear.late_ms) * EVERY_S >= seconds:
            over.set()
            rate.count()
        if rate.counted_s >= seconds:
            app.exit()

    check = QTimer(interval=100)
    check.timeout.connect(look)
    check.start()
    app.exec()
    over.set()
    asker.join()
    studio.shut_down()
    window.close()
    return ear.late_ms, rate.median


def without_window(recipe: str, seconds: float, runs: Path) -> float:
    """The median training rate in a child process that nobody watches."""
    rate = Rate()
    engine = HeardEngine(rate)
    engine.start()
    engine.run(endless(recipe), runs)
    while rate.counted_s < seconds:
        engine.messages(timeout=0.5)
        if rate.warm:
            rate.count()
    engine.send(commands.Stop(keep=False))
    engine.close()
    return rate.median


def main() -> None:
    parser = figures.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--recipe", default="quickstart")
    asked = parser.parse_args()
    seconds, repeats = (3.0, 2) if asked.small else (asked.seconds, asked.repeats)
    late: list[list[float]] = []
    rates: list[tuple[float, float]] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as runs:
            asked_ms, watched = with_window(asked.recipe, seconds, Path(runs))
            late.append(asked_ms)
            rates.append((watched, without_window(asked.recipe, seconds, Path(runs))))
    figures.hand_over(summed_up(late, rates), asked.json)


def summed_up(late_ms: Sequence[Sequence[float]], rates: Sequence[tuple[float, float]]) -> list[Figure]:
    """late_ms: run by run. rates: images a second with the window and without, run by run."""
    case = "while a run trains"
    found = [np.percentile(late, [50, 99]) for late in late_ms]
    counted = sum(map(len, late_ms))
    note = f"{counted:,} questions, median {np.median([p50 for p50, _ in found]):.1f} ms"
    shares = [100 * watched / alone for watched, alone in rates]
    seen, unseen = (statistics.median(rate) for rate in zip(*rates, strict=True))
    told = f"{seen:,.0f} images/s with the window, {unseen:,.0f} without"
    return [
        over("event loop, 99th percentile", [p99 for _, p99 in found], "ms", must=16, case=case, note=note),
        Figure("event loop, worst", max(map(max, late_ms)), "ms", must=50, case=case),
        over("training with the window open", shares, "%", must=92, aim=97, better="more", note=told),
    ]


if __name__ == "__main__":
    main()

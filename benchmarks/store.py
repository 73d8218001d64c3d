"""How quickly does the window open a store of a thousand runs, scroll it, and replay a long run?

    python -m benchmarks.store [--runs 1000] [--events 200000] [--repeats 5] [--run FOLDER] [--json FILE]

The real window, offscreen unless a platform is set, over copies of one real run (`--run`, or a short one that
is trained for it). `list`: from the choice of the folder to the first painted list. `scroll`: the longest
frame on the way from the first run to the last, while the store is looked at anew. `replay`: from the choice
of the run to all of its curves on the screen. `ten runs`: ten of the list looked at, one after the other.
Beside the time on the clock stands the processor's in this process, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QCoreApplication, QEvent, QEventLoop, QObject, QTimer
from PySide6.QtWidgets import QWidget

from benchmarks import made_store
from benchmarks.figures import Figure, hand_over, number, over, parser
from benchmarks.window import Ask, Ear
from kd_engine.events import STUDENT
from kd_engine.remote import LocalEngine
from kd_gui.app import application, settings_aside
from kd_gui.collector import Collector
from kd_gui.log import Log
from kd_gui.main_window import MainWindow
from kd_gui.panels.loss import LossPanel
from kd_gui.state.studio import Studio

PATIENCE_S = 60.0
NOTCH = 3  # rows that one notch of the wheel moves
LOOK_EVERY = 40  # frames
ASK_S = 0.005
TEN = 10
SHARES = (0.125, 0.25, 0.5)  # of the runs, for how the cost grows

Points = tuple[tuple[float, float], ...]


class NoEngine(LocalEngine):
    """Nothing is trained here."""

    def start(self) -> None:
        pass


class Painted(QObject):
    """How often a widget was painted, and when last."""

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self.widget = widget
        self.times = 0
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        self.times += event.type() == QEvent.Type.Paint
        return False


@dataclass
class Took:
    """seconds: on the clock; processor: of all threads of this process; pause: the longest time in which the
    event loop did not answer; frames: how often the watched widget was painted."""

    seconds: float
    processor: float
    pause: float
    frames: int


class Desk:
    """The window that everything is measured in."""

    def __init__(self, runs: Path) -> None:
        self.app = application()
        self.studio = Studio(NoEngine(), runs, self.app)
        self.window = MainWindow(self.studio, Log(self.app))
        self._collector = Collector(self.app)
        self.window.show()
        self.studio.start()
        self.until(lambda: isinstance(self.window.loss, LossPanel))
        self._collector.start()
        self.table = self.window.runs.table
        self.rows = Painted(self.table.viewport())
        self.curves = Painted(self.window.loss.plot)  # type: ignore[attr-defined]

    def until(self, there: Callable[[], bool]) -> None:
        """Turn the event loop until something holds. TimeoutError when it never does."""
        loop, end = QEventLoop(), time.monotonic() + PATIENCE_S
        timer = QTimer(interval=1)
        timer.timeout.connect(lambda: loop.quit() if there() or time.monotonic() > end else None)
        timer.start()
        loop.exec()
        if not there():
            raise TimeoutError("what was waited for did not come")

    def list_runs(self, root: Path, count: int) -> Took:
        """From the choice of a folder to the painted list of the runs in it."""
        model = self.studio.runs
        return self._timed(
            lambda: self.studio.set_runs_folder(root), lambda: model.rowCount() == count, self.rows
        )

    def clear(self, empty: Path) -> None:
        """An empty folder of runs, and no run on show: nothing is left of what was read before."""
        self.studio.set_runs_folder(empty)
        self.until(lambda: self.studio.runs.rowCount() == 0 and self.studio.feed.empty)
        self.app.processEvents()

    def look_at(self, name: str) -> Took:
        """From the choice of a run to all of its curves on the screen."""
        feed = self.studio.feed
        took = self._timed(
            lambda: self.studio.look_at(name),
            lambda: feed.run == name and feed.status == "done",
            self.curves,
        )
        plot = self.window.loss.plot  # type: ignore[attr-defined]
        assert {plot.line(key).x.size for key in plot.series()} == {feed.curves[STUDENT].loss.size}
        return took

    def scroll(self) -> list[float]:
        """Seconds of each frame from the first run to the last."""
        bar, frames = self.table.verticalScrollBar(), []
        bar.setValue(0)
        self.app.processEvents()
        step = NOTCH * self.table.rowHeight(0)
        for i, value in enumerate(range(step, bar.maximum(), step)):
            if i % LOOK_EVERY == 0:
                self.studio.runs.refresh()
            began, painted = time.perf_counter(), self.rows.times
            bar.setValue(value)
            while self.rows.times == painted:
                self.app.processEvents()
            frames.append(time.perf_counter() - began)
        return frames

    def close(self) -> None:
        self.window.close()
        self.studio.shut_down()
        self._collector.stop()

    def _timed(self, act: Callable[[], object], done: Callable[[], bool], watched: Painted) -> Took:
        """From `act` until `done` holds, and until what the widget shows then was painted."""
        ear, quiet = Ear(), threading.Event()
        asker = threading.Thread(target=_ask, args=(ear, quiet), daemon=True)
        asker.start()
        before, began, worked = watched.times, time.perf_counter(), time.process_time()
        act()
        self.until(done)
        painted = watched.times
        watched.widget.update()  # what was due is painted with it
        self.until(lambda: watched.times > painted)
        seconds, processor = time.perf_counter() - began, time.process_time() - worked
        quiet.set()
        asker.join()
        self.app.processEvents()
        return Took(seconds, processor, max(ear.late_ms, default=0.0) / 1000, watched.times - before)


def _ask(ear: Ear, quiet: threading.Event) -> None:
    while not quiet.wait(ASK_S):
        QCoreApplication.postEvent(ear, Ask())


def measure(asked: argparse.Namespace, folder: Path) -> list[Figure]:
    run = asked.run or made_store.train(folder / "trained")
    store, empty = folder / "store", folder / "empty"
    made_store.fill(store, run, asked.runs)
    parts = {max(int(share * asked.runs), 1): share for share in SHARES}
    roots = {n: made_store.part_of(folder / f"part{n}", store, n) for n in parts} | {asked.runs: store}
    long_ = made_store.long_run(folder / "long", run, asked.events)
    desk = Desk(empty)
    try:
        lists = {n: _lists(desk, root, n, empty, asked.repeats) for n, root in roots.items()}
        frames = [desk.scroll() for _ in range(asked.repeats)]
        names = [desk.studio.runs.run_at(row).name for row in range(min(TEN, asked.runs))]
        tens = [_together([desk.look_at(name) for name in names]) for _ in range(asked.repeats)]
        replays = []
        for _ in range(asked.repeats):
            desk.clear(empty)
            desk.list_runs(long_.parent, 1)
            replays.append(desk.look_at(long_.name))
    finally:
        desk.close()
    points = tuple(
        (float(n), statistics.median(t.seconds for t in took)) for n, took in sorted(lists.items())
    )
    runs, many = f"{asked.runs:,} runs", f"{asked.events:,} events"
    return [
        _figure("store: listed", lists[asked.runs], runs, 0.5, points),
        over("store: longest frame while scrolling", [max(one) for one in frames], "s", case=runs, must=0.05),
        over("store: a frame while scrolling", [statistics.median(one) for one in frames], "s", case=runs),
        _figure("replay: all curves drawn", replays, many, 1.0),
        over("replay: longest pause of the window", [t.pause for t in replays], "s", case=many, must=0.05),
        over("replay: paintings of the curves", [float(t.frames) for t in replays], "", case=many),
        _figure("ten runs: looked at in turn", tens, f"{len(names)} of {runs}"),
    ]


def _lists(desk: Desk, root: Path, count: int, empty: Path, repeats: int) -> list[Took]:
    took = []
    for _ in range(repeats):
        desk.clear(empty)
        took.append(desk.list_runs(root, count))
    return took


def _together(parts: list[Took]) -> Took:
    return Took(
        sum(t.seconds for t in parts),
        sum(t.processor for t in parts),
        max(t.pause for t in parts),
        sum(t.frames for t in parts),
    )


def _figure(name: str, took: list[Took], case: str, must: float | None = None, points: Points = ()) -> Figure:
    worked = statistics.median(t.processor for t in took)
    note = f"processor {number(worked)} s"
    return over(name, [t.seconds for t in took], "s", case=case, must=must, note=note, points=points)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=1000)
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--run", type=Path, metavar="FOLDER", help="a finished run (default: train one)")
    asked = options.parse_args()
    if asked.small:
        asked.runs, asked.events, asked.repeats = 40, 2_000, 1
    with settings_aside() as folder:
        figures = measure(asked, folder)
    hand_over(figures, asked.json)


if __name__ == "__main__":
    main()

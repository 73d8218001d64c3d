"""How soon is the window there, and how soon after Distill does the curve begin?

    python -m benchmarks.start [--repeats 5] [--recipe quickstart] [--json FILE]

`first paint`: `kd-gui` started anew each time, from the beginning of its process. `first point`: the real
window over a real engine that is ready, from the press of the button to the painting of the first report; the
run is discarded then, and started again. `the engine's first`: the same for the first run after the engine's
process has begun. What the time went into is told by the times of the run's own events; beside it stands what
the processor worked for it, in the window's process or in the engine's.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QEvent, QEventLoop, QObject, QTimer
from PySide6.QtWidgets import QWidget

from benchmarks.figures import Figure, hand_over, over, parser
from kd_engine import events as e
from kd_engine import remote
from kd_engine.document import read_document
from kd_engine.events import STUDENT, Event
from kd_gui.app import application, settings_aside
from kd_gui.collector import Collector
from kd_gui.log import Log
from kd_gui.main_window import MainWindow
from kd_gui.panels.loss import LossPanel
from kd_gui.state.phase import IDLE
from kd_gui.state.studio import Studio

PATIENCE_S = 120.0
PROCESSOR = "processor"
QUIET_S = 1.5  # after the engine is ready: what it does beforehand, for a run to begin sooner, is done


def first_paint(folder: Path) -> tuple[float, float]:
    """Seconds from the beginning of a process to its window's first paint, as the process itself tells, and
    the processor's."""
    command = [sys.executable, "-m", "kd_gui", "--timing", "--runs", str(folder)]
    environ = {**os.environ, "XDG_CONFIG_HOME": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        told = re.fullmatch(r"first paint: (\d+) ms\n", process.stdout.readline())
        worked = processor(process.pid)
        process.send_signal(signal.SIGTERM)
    if told is None:
        raise RuntimeError("the window did not say when it was painted")
    return int(told[1]) / 1000, worked


def processor(pid: int | None) -> float:
    """Seconds for which a process has used a processor, nan where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return math.nan


class HeardEngine(remote.Engine):
    """Keeps what the run told until its first report, by the time at which it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Event] = []

    def messages(self, timeout: float = 0.0) -> list[remote.Message]:
        found = super().messages(timeout)
        for message in found:
            if isinstance(message, Event) and not any(isinstance(one, e.StepDone) for one in self.told):
                self.told.append(message)
        return found


class Painting(QObject):
    """Calls `then` after each painting of a widget."""

    def __init__(self, widget: QWidget, then: Callable[[], object]) -> None:
        super().__init__(widget)
        self._then = then
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Paint:
            QTimer.singleShot(0, self, self._then)
        return False


class Desk:
    """The window, and an engine in a process of its own."""

    def __init__(self, runs: Path, recipe: str) -> None:
        self.app = application()
        self.engine = HeardEngine()
        self.studio = Studio(self.engine, runs, self.app)
        self.window = MainWindow(self.studio, Log(self.app))
        self.studio.draft.load_document(read_document(recipe), recipe)
        self._collector = Collector(self.app)
        self.window.show()
        self.until(lambda: isinstance(self.window.loss, LossPanel))
        self._collector.start()
        self.studio.start()
        self.until(lambda: self.studio.can("distill") and bool(self.studio.draft.facts))
        self.wait(QUIET_S)
        self._painted_at = 0.0
        Painting(self.window.loss.plot, self._saw)  # type: ignore[attr-defined]

    def first_point(self) -> tuple[float, dict[str, float]]:
        """Seconds from the button to the first painted report, and the parts that they went into; under
        PROCESSOR the engine's."""
        self._painted_at = 0.0
        self.engine.told = []
        began, clock, worked = time.perf_counter(), time.time(), processor(self.engine.pid)
        self.window.actions_["distill"].trigger()
        self.until(lambda: self._painted_at > 0)
        took = self._painted_at - began
        parts = {PROCESSOR: processor(self.engine.pid) - worked, **spent(clock, self.engine.told)}
        self.until(lambda: self.studio.can("discard"))
        self.studio.discard()
        self.until(lambda: self.studio.phase in IDLE)
        self.wait(QUIET_S)
        return took, parts

    def until(self, there: Callable[[], bool]) -> None:
        """Turn the event loop until something holds. TimeoutError when it never does."""
        end = time.monotonic() + PATIENCE_S
        while not there():
            if time.monotonic() > end:
                raise TimeoutError("what was waited for did not come")
            self.wait(0.002)

    def wait(self, seconds: float) -> None:
        loop = QEventLoop()
        QTimer.singleShot(round(1000 * seconds), loop, loop.quit)
        loop.exec()

    def close(self) -> None:
        self.window.close()
        self.studio.shut_down()
        self._collector.stop()

    def _saw(self) -> None:
        curves = self.studio.feed.curves.get(STUDENT)
        if not self._painted_at and curves is not None and len(curves.loss):
            self._painted_at = time.perf_counter()


def spent(began: float, told: list[Event]) -> dict[str, float]:
    """Seconds by what the engine did until its first report: what an event announces lasts until the next."""
    parts: dict[str, float] = {}
    name, since = "start", began
    for event in told:
        parts[name] = parts.get(name, 0.0) + event.time - since
        since = event.time
        if isinstance(event, e.Preparing):
            name = event.what
        elif not isinstance(event, e.Notice):
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(event).__name__).lower()
    return parts


def measure(asked: argparse.Namespace, folder: Path) -> list[Figure]:
    (folder / "runs").mkdir()
    paints = [first_paint(folder) for _ in range(asked.repeats)]
    desk = Desk(folder / "runs", asked.recipe)
    try:
        took = [desk.first_point() for _ in range(asked.repeats + 1)]
    finally:
        desk.close()
    (first, its_parts), later = took[0], took[1:]
    own = {PROCESSOR: statistics.median(worked for _, worked in paints)}
    names = dict.fromkeys(name for _, parts in later for name in parts)
    median = {n: statistics.median(parts.get(n, 0.0) for _, parts in later) for n in names}
    return [
        over(
            "window: first paint",
            [s for s, _ in paints],
            "s",
            must=0.8,
            case="launched anew",
            note=_said(own),
        ),
        Figure("first point", first, "s", must=2.0, case="the engine's first", note=_said(its_parts)),
        over("first point", [s for s, _ in later], "s", must=2.0, case=asked.recipe, note=_said(median)),
    ]


def _said(parts: dict[str, float]) -> str:
    large = sorted(parts.items(), key=lambda part: -part[1])[:6]
    return ", ".join(f"{name} {seconds:.2f}" for name, seconds in large)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--recipe", default="quickstart")
    asked = options.parse_args()
    if asked.small:
        asked.repeats = 1
    with settings_aside() as folder:
        figures = measure(asked, folder)
    hand_over(figures, asked.json)


if __name__ == "__main__":
    main()

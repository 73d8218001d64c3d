"""What the panels show: the live run, a stored one read back from its log, or the experiment before any run.

Logs are read elsewhere, chunk by chunk, and each is folded in before the next is read. Live events that come
meanwhile are held back, then added, so that going back to a live run loses nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from kd_engine import events as e
from kd_engine import paths
from kd_engine.errors import KdError, StoreError
from kd_engine.events import Event
from kd_engine.store import RunFolder
from kd_gui.state.feed import Feed
from kd_gui.state.reading import Reading
from kd_gui.state.samples import Samples

FOLLOW_MS = 1000  # a run that another process trains is read again so often
CHUNK = 4000  # events in one turn of the event loop: a few milliseconds of folding
SNAPSHOTS = Path("snapshots")


@dataclass
class Stored:
    """What was read of a run: all events that hold, each made when it is asked for, and its pictures by
    epoch."""

    folder: Path
    status: str
    events: Iterator[Event]
    samples: Path | None = None
    snapshots: dict[int, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Chunk:
    """The next events of a log; fewer than CHUNK at its end."""

    events: list[Event]


@dataclass(frozen=True)
class More:
    """What was added to a log since, and how the run stands."""

    events: Sequence[Event]
    status: str


def read(folder: Path) -> Stored:
    """Everything that the panels show of a run. Slow for long runs: not for the GUI thread. StoreError."""
    run = RunFolder(folder)
    run.recipe()  # raises for what is no run, or one from a newer version
    status, events = run.status(), run.events()  # before the files: what the log tells of is there
    try:
        files = sorted((folder / SNAPSHOTS).glob("*.npz"))
    except OSError as error:
        raise StoreError(f"{folder}: cannot be read: {error.strerror}") from error
    numbers = [(re.fullmatch(r"epoch_(\d+)", path.stem), path) for path in files]
    return Stored(
        folder=folder,
        status=status,
        events=events,
        samples=next((path for path in files if path.stem == "samples"), None),
        snapshots={int(match[1]): path for match, path in numbers if match},
    )


def read_on(folder: Path, seen: float) -> More:
    """What happened after `seen` in a log that grows. Not for the GUI thread. StoreError."""
    run = RunFolder(folder)
    status = run.status()  # before the log: what an ending run still writes is read, too
    return More([event for event in run.raw_events() if event.time > seen], status)


class Show(QObject):
    """Fills one feed and one set of samples. stored: the run that is looked at, "" for the live one or
    none."""

    changed = Signal()
    failed = Signal(object)  # a KdError: the run cannot be shown

    def __init__(self, feed: Feed, samples: Samples, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.stored = ""
        self._feed = feed
        self._samples = samples
        self._reading = Reading(self)
        self._reading.done.connect(self._read)
        self._turn = 0  # what was read for an earlier one is ignored
        self._until: float | None = None
        self._folder = Path()
        self._then: Callable[[], object] = _nothing
        self._stored: Stored | None = None
        self._held: list[Event] | None = None  # live events while a log is being read
        self._seen = 0.0  # the time of the last event of a run that goes on elsewhere
        self._follow = QTimer(self, interval=FOLLOW_MS, singleShot=True)
        self._follow.timeout.connect(self._read_on)

    # ---- what to show --------------------------------------------------------------------------------------
    def experiment(self, preset: str) -> None:
        """No run: empty curves, and the pictures that are bundled with the preset, at once."""
        self.forget()
        self.stored = ""
        self._feed.clear()
        self._samples.forget_student()
        lens = paths.resources() / "lens" / f"{preset}.npz"
        if lens.is_file():
            self.pictures(lens)
        self.changed.emit()

    def pictures(self, path: Path) -> None:
        """Other pictures in the strip. What cannot be used is told by `failed`."""
        try:
            self._samples.load(path)
        except KdError as error:
            self.failed.emit(error)

    def begin(self) -> None:
        """A new run: empty curves, no student yet."""
        self.forget()
        self.stored = ""
        self._feed.clear()
        self._samples.forget_student()
        self.changed.emit()

    def run(self, folder: Path) -> None:
        """A stored run."""
        self.stored = folder.name
        self._fill(folder)
        self.changed.emit()

    def live(self, folder: Path, until: float | None, then: Callable[[], object] | None = None) -> None:
        """The live run as far as `until`, then what has come since. then: called when all is there."""
        self.stored = ""
        self._held = []
        self._fill(folder, until, then)
        self.changed.emit()

    def forget(self) -> None:
        """Stop filling."""
        self._reading.forget()
        self._follow.stop()
        self._turn += 1
        self._stored, self._held = None, None

    def take(self, events: Sequence[Event]) -> None:
        """Live events, in order."""
        if self.stored or not events:
            return
        if self._held is not None:
            self._held += events
            return
        self._tell(events)

    def _tell(self, events: Sequence[Event]) -> None:
        """Fold events into the curves, and load the pictures that they tell of."""
        self._feed.take(events)
        for event in events:
            if isinstance(event, e.SamplesReady):
                self.pictures(Path(event.path))
            elif isinstance(event, e.SnapshotSaved):
                self._samples.add_snapshot(event.epoch, event.path)
            elif isinstance(event, e.ProbeReady):
                self._samples.take_probe(event)
            elif isinstance(event, e.Paused) and self._samples.epochs:
                self._samples.ask()  # people pause in order to look, and the last snapshot is older
            elif isinstance(event, e.Refused) and event.command == "AskProbe":
                self._samples.refuse(event.path, event.why)

    # ---- a run that another process trains
    def _read_on(self) -> None:
        folder, seen = self._folder, self._seen
        self._reading.ask(self._turn, lambda: read_on(folder, seen))

    def _take_more(self, more: More) -> None:
        if more.events:
            self._seen = more.events[-1].time
            self._tell(more.events)
        if more.status == "running":
            self._follow.start()
        elif more.status == "interrupted" and self._feed.live:
            self._feed.close("interrupted")

    # ---- a log, read elsewhere -----------------------------------------------------------------------------
    def _fill(
        self, folder: Path, until: float | None = None, then: Callable[[], object] | None = None
    ) -> None:
        held = self._held
        self.forget()
        self._held, self._until, self._then = held, until, then or _nothing
        turn = self._turn
        self._reading.ask(turn, lambda: read(folder))

    def _read(self, turn: object, result: object) -> None:
        if turn != self._turn:
            return
        if isinstance(result, More):
            self._take_more(result)
            return
        if isinstance(result, Chunk):
            self._fold(result.events)
        elif isinstance(result, Stored):
            self._stored, self._seen = result, 0.0
            self._feed.clear()
            self._read_chunk()
        else:
            self.forget()
            self.failed.emit(result)

    def _read_chunk(self) -> None:
        assert self._stored is not None
        events = self._stored.events
        self._reading.ask(self._turn, lambda: Chunk(list(islice(events, CHUNK))))

    def _fold(self, events: list[Event]) -> None:
        """The views hear of the first chunk, so that the old run is gone from the screen, and of the last:
        curves that are drawn after every chunk cost more than all of the folding."""
        first, there_is_more, until = self._feed.empty, len(events) == CHUNK, self._until
        self._seen = events[-1].time if events else self._seen
        self._feed.fold(events if until is None else [e for e in events if e.time <= until])
        if first or not there_is_more:
            self._feed.tell()
        if there_is_more:  # not before: two threads that compute take turns, and lose by it
            self._read_chunk()
        else:
            self._finish()

    def _finish(self) -> None:
        assert self._stored is not None
        stored, held, then = self._stored, self._held, self._then
        if self._until is None and stored.status == "interrupted" and self._feed.live:
            self._feed.close("interrupted")
        if stored.samples is not None:
            self.pictures(stored.samples)
            for epoch, path in stored.snapshots.items():
                self._samples.add_snapshot(epoch, path)
        self._stored = self._held = None
        self.take(held or [])
        if self.stored and stored.status == "running":
            self._folder = stored.folder
            self._follow.start()
        then()
        self.changed.emit()


def _nothing() -> None:
    """The default of `then`."""

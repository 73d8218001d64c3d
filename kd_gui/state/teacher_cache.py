"""What is kept of teachers' answers on this machine; the disk is read and cleared off the GUI thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from kd_engine.cache import Kept, Shelf
from kd_engine.errors import KdError
from kd_gui.state.reading import Reading


@dataclass(frozen=True)
class Answers:
    """One teacher's answers to one part of one data set. samples: how many images; part: of which; seconds:
    since the epoch, when last used; busy: a process is using them."""

    key: str
    teacher: str
    weights: str
    samples: int | None
    held_out: bool
    bytes: int
    used: float
    busy: bool


class TeacherCache(QObject):
    """`answers` is None until the first look has ended; `freed` after a clearing: so many bytes."""

    changed = Signal()

    def __init__(self, parent: QObject | None = None, shelf: Callable[[], Shelf] = Shelf) -> None:
        super().__init__(parent)
        self.answers: list[Answers] | None = None
        self.freed: int | None = None
        self.busy = False
        self.trouble = ""
        self.root: Path | None = None
        self._shelf = shelf
        self._reading = Reading(self)
        self._reading.done.connect(self._take)

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.answers or ())

    def look(self) -> None:
        """Find out what is there."""
        self._ask("look", lambda: self._read(self._shelf()))

    def clear(self) -> None:
        """Remove all that no process is using."""

        def clear() -> object:
            shelf = self._shelf()
            freed = shelf.clear()
            return freed, self._read(shelf)

        self._ask("clear", clear)

    def _ask(self, tag: str, read: Callable[[], object]) -> None:
        if not self.busy:
            self.busy, self.freed, self.trouble = True, None, ""
            self._reading.ask(tag, read)
            self.changed.emit()

    @staticmethod
    def _read(shelf: Shelf) -> tuple[Path, list[Answers]]:
        return shelf.root, [_told(kept) for kept in shelf.kept()]

    def _take(self, tag: object, result: object) -> None:
        self.busy = False
        if isinstance(result, KdError):
            self.trouble = str(result)
        elif tag == "clear":
            self.freed, (self.root, self.answers) = result  # type: ignore[misc]
        else:
            self.root, self.answers = result  # type: ignore[misc]
        self.changed.emit()


def _told(kept: Kept) -> Answers:
    about = kept.about
    samples = about.get("samples")
    return Answers(
        key=kept.key,
        teacher=str(about.get("teacher") or "?"),
        weights=str(about.get("weights") or ""),
        samples=samples if isinstance(samples, int) else None,
        held_out=about.get("part") == "held out",
        bytes=kept.bytes,
        used=kept.used,
        busy=kept.busy,
    )

"""The strip's pictures, the choice among them, and what both models say about the chosen one.

Views only listen. `wanted` says which look into the models is missing; whoever owns the engine asks for
it and hands the answer to `take_probe`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PySide6.QtCore import QObject, QTimer, Signal

from kd_engine.errors import KdError
from kd_engine.events import ProbeReady
from kd_gui.state import answers
from kd_gui.state.answers import SoftTargets
from kd_gui.state.maps import ATTENTION, AUTO, Map
from kd_gui.state.reading import Reading
from kd_gui.state.said import FILTERS, HeldOut, Look, Said, View
from kd_gui.state.sample_files import (
    Answer,
    Pictures,
    Snapshot,
    read_answer,
    read_pictures,
    read_snapshot,
)

_GATHER_MS = 30  # a stored run's snapshots come by the hundred: draw once, not for each
_ASK_AFTER_MS = 60  # arrow keys held down pass many pictures by: ask for the one they stop at


class Samples(QObject):
    """Which pictures there are, which one is looked at, how, and at which epoch."""

    loaded = Signal()  # other pictures
    selected = Signal()  # another picture is the current one
    shown_changed = Signal()  # which pictures the strip shows, or the marks on them
    looks_changed = Signal()  # heat or logits of the current picture
    epochs_changed = Signal()  # the snapshots there are, or the one that is looked at
    choices_changed = Signal()  # the maps there are, or the chosen one
    temperature_changed = Signal()
    wanted = Signal(dict)  # {"probe", "sample", "tap", "part", "id"}: please ask
    trouble = Signal(str)  # a file or an answer that could not be had, in words for a notice

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.current = -1  # an index into the pictures
        self.shown: list[int] = []  # indices, in the strip's order
        self.filter = FILTERS[0]
        self.temperature = 4.0
        self.map, self.tap = ATTENTION, AUTO
        self.maps = self._only_attention()
        self._epoch: int | None = None
        self._said: Said | None = None  # a new one for every set of pictures and every student
        self._asked: dict[str, tuple[int, str, str]] = {}
        self._ids = itertools.count(1)
        self._reading = Reading(self)
        self._reading.done.connect(self._take)
        self._soon = QTimer(self, singleShot=True, interval=_ASK_AFTER_MS)
        self._soon.timeout.connect(self.ask)
        self._gather = QTimer(self, singleShot=True, interval=_GATHER_MS)
        self._gather.timeout.connect(self._snapshots_came)

    @property
    def pictures(self) -> Pictures | None:
        return None if self._said is None else self._said.pictures

    def load(self, path: str | Path) -> None:
        """Show the pictures of a file; the current one stays when it is among them. StoreError."""
        before, current = self.pictures, self.current
        pictures = read_pictures(path)
        self.current = _same_picture(before, current, pictures) if before is not None else 0
        self._begin(pictures)
        self.set_maps(pictures.maps)
        self.loaded.emit()
        self._epochs_moved()
        self.selected.emit()
        self._ask_if_missing()

    def forget_student(self) -> None:
        """A new run begins: drop what earlier students said. The pictures and the teacher stay."""
        if self.pictures is not None:
            self._begin(self.pictures)
            self._epochs_moved()

    def add_snapshot(self, epoch: int, path: str | Path) -> None:
        """Take the student's word on all pictures after `epoch`; `epochs_changed` tells that it was read."""
        if self._said is not None:
            self._reading.ask((self._said,), partial(read_snapshot, epoch, path, self._said.pictures))

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """Add a snapshot that was read already."""
        assert self._said is not None
        self._said.add(snapshot)
        self._snapshots_came()

    def take_probe(self, event: ProbeReady) -> None:
        """Take a probe's answer; `looks_changed` tells that it was read, if the current picture is meant."""
        key = self._asked.pop(event.id, None) or self._key_of(event)
        if key is not None:
            self._reading.ask((self._said, key, event.numbers), partial(read_answer, event.path))

    def refuse(self, id: str, why: str) -> None:
        """The engine would not answer what was `wanted` under `id`. Ids of others are not ours to tell
        about."""
        if self._asked.pop(id, None) is not None:
            self.trouble.emit(why)

    def select(self, index: int) -> None:
        """Make the picture at `index` (among all pictures) the current one."""
        if self.pictures is not None and index != self.current and 0 <= index < self.pictures.count:
            self.current = index
            self.selected.emit()
            self.looks_changed.emit()
            self._ask_if_missing()

    def move(self, by: int) -> None:
        """Go `by` pictures along the strip, up to its ends; onto it when the current picture is not shown."""
        if self.shown and self.current not in self.shown:
            self.select(self.shown[0])
        elif self.shown:
            at = self.shown.index(self.current) + by
            self.select(self.shown[min(max(at, 0), len(self.shown) - 1)])

    def set_filter(self, name: str) -> None:
        """One of FILTERS. When the current picture is not among those shown, the first of them becomes
        current."""
        self.filter = name
        self._choose_shown()
        if self.shown and self.current not in self.shown:
            self.select(self.shown[0])

    def set_temperature(self, temperature: float) -> None:
        if temperature > 0 and temperature != self.temperature:
            self.temperature = temperature
            self.temperature_changed.emit()

    def set_maps(self, maps: Sequence[Mapping[str, Any]]) -> None:
        """What both models can be asked for, as Map.from_json reads it. A choice that is gone gives way."""
        self.maps = tuple(Map.from_json(one) for one in maps) or self._only_attention()
        if self.map not in [one.name for one in self.maps]:
            self.choose(self.maps[0].name)
        elif self.chosen_map.tap(self.tap) != self.tap:
            self.choose(self.map)
        else:
            self.choices_changed.emit()

    @property
    def chosen_map(self) -> Map:
        return next(one for one in self.maps if one.name == self.map)

    def choose(self, map: str, tap: str = AUTO) -> None:
        """Look through another probe or tap."""
        self.map = map
        self.tap = self.chosen_map.tap(tap)
        self.choices_changed.emit()
        self.looks_changed.emit()
        self._ask_if_missing()

    @property
    def epochs(self) -> list[int]:
        """The epochs with a snapshot, in order."""
        return [] if self._said is None else sorted(self._said.snapshots)

    @property
    def epoch(self) -> int | None:
        """The epoch that is looked at; None: the newest, whichever that is."""
        return self._epoch

    def set_epoch(self, epoch: int | None) -> None:
        """Look at the student as it was after `epoch`, one of `epochs`; the last, or None: follow the
        newest."""
        epochs = self.epochs
        wanted = None if epoch is None or epoch == max(epochs, default=None) else epoch
        if wanted != self._epoch and (wanted is None or wanted in epochs):
            self._epoch = wanted
            self._epochs_moved()

    def soft_targets(self, top: int = 5) -> SoftTargets | None:
        """Both answers about the current picture at the current temperature; None before there is any."""
        if self._said is None:
            return None
        teacher, student = self._said.teacher_logits(self.current), self._said.student_logits(self._view())
        return answers.soft_targets(teacher, student, self.temperature, top)

    def look(self) -> Look | None:
        """What to draw of the current picture; None without pictures."""
        return None if self._said is None else self._said.look(self._view())

    def marks(self, index: int) -> tuple[bool, bool]:
        """(the student is wrong, the models disagree) about a picture, at the epoch that is looked at."""
        return (False, False) if self._said is None else self._said.marks(index, self._epoch)

    def predictions(self, index: int) -> tuple[int | None, int | None]:
        """The classes that teacher and student choose for a picture, None for one that is not there (yet)."""
        return (None, None) if self._said is None else self._said.predictions(index, self._epoch)

    def held_out(self) -> HeldOut | None:
        """What both models name for the validation part at the epoch that is looked at; None where that was
        not kept."""
        return None if self._said is None else self._said.held_out(self._epoch)

    def ask(self) -> None:
        """Ask for the current picture now, whatever is known: as when a run was paused between two
        snapshots."""
        if self.pictures is None:
            return
        view = self._view()
        id = f"look-{next(self._ids)}"
        self._asked[id] = view.key
        sample = int(self.pictures.indices[view.index])
        part = self.pictures.part
        self.wanted.emit({"probe": view.map, "sample": sample, "tap": view.tap, "part": part, "id": id})

    def _view(self) -> View:
        plain = (self.map, self.tap) == (ATTENTION, AUTO)
        return View(self.current, self.map, self.tap, self._epoch, plain)

    def _begin(self, pictures: Pictures) -> None:
        self._reading.forget()
        self._gather.stop()
        self._asked.clear()
        self._epoch = None
        self._said = Said(pictures)

    def _take(self, tag: tuple[Any, ...], result: object) -> None:
        if tag[0] is not self._said or self._said is None:
            return  # about earlier pictures or an earlier student
        if isinstance(result, KdError):
            self.trouble.emit(str(result))
        elif isinstance(result, Snapshot):
            self._said.add(result)
            if not self._gather.isActive():  # or a steady stream would put it off
                self._gather.start()
        elif isinstance(result, Answer):
            self._said.keep(tag[1], result, tag[2])
            if tag[1] == self._view().key:
                self.looks_changed.emit()

    def _snapshots_came(self) -> None:
        if self._epoch is not None:
            self.epochs_changed.emit()
            return
        self._epochs_moved()
        if not self._view().plain:
            self._soon.start()

    def _epochs_moved(self) -> None:
        self.epochs_changed.emit()
        self._choose_shown()
        self.looks_changed.emit()

    def _choose_shown(self) -> None:
        self.shown = [] if self._said is None else self._said.chosen(self.filter, self._epoch)
        self.shown_changed.emit()

    def _ask_if_missing(self) -> None:
        """The files answer for the plain map, as of the last snapshot; ask for what they do not hold, or
        for newer."""
        if self._said is None:
            return
        view = self._view()
        useful = not view.plain or (self._said.has_student and view.epoch is None)
        if useful and not self._said.is_current(view):
            self._soon.start()

    def _key_of(self, event: ProbeReady) -> tuple[int, str, str] | None:
        if self.pictures is None:
            return None
        at = np.flatnonzero(self.pictures.indices == event.sample)
        return (int(at[0]), event.probe, event.tap) if len(at) else None

    def _only_attention(self) -> tuple[Map, ...]:
        return (Map(ATTENTION, self.tr("attention")),)


def _same_picture(before: Pictures, current: int, pictures: Pictures) -> int:
    """Where the current one of `before` is among `pictures`; 0 when it is not."""
    if (before.part, before.classes) != (pictures.part, pictures.classes):
        return 0
    at = np.flatnonzero(pictures.indices == before.indices[current])
    return int(at[0]) if len(at) else 0

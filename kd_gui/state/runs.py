"""The runs of a store as a table, newest first. Folders are read elsewhere, and only those that changed.

A change shows in a folder's own time stamp, because the engine replaces whole files in it. Runs whose
process may have died without a word (running, interrupted) are looked at each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt, Signal

from kd_engine.errors import KdError
from kd_engine.store import RunFolder, RunInfo, Store
from kd_gui.state import run_figures
from kd_gui.state.feed import Feed
from kd_gui.state.reading import Reading
from kd_gui.state.run_figures import COLUMNS, NAME, Figures, figures, live_figures

SORT, LIVE, STATUS, WHEN = (Qt.ItemDataRole.UserRole + i for i in range(4))
UNSETTLED = ("running", "interrupted")

Index = QModelIndex | QPersistentModelIndex
Kept = dict[str, tuple[int, RunInfo]]  # by name: the folder's time stamp and what was read then


def scan(store: Store, kept: Mapping[str, tuple[int, RunInfo]]) -> tuple[list[RunInfo], Kept]:
    """All runs, newest first, and what to keep for the next scan; reads only what changed since `kept`.

    StoreError when the store's folder cannot be read."""
    found: Kept = {}
    for name, stamp in store.stamps().items():
        old = kept.get(name)
        if old is not None and old[0] == stamp and old[1].status not in UNSETTLED:
            found[name] = old
            continue
        info = store.info(RunFolder(store.root / name))
        if info is not None:
            found[name] = (stamp, info)
    infos = sorted(
        (info for _, info in found.values()), key=lambda info: (info.created, info.name), reverse=True
    )
    return infos, found


class RunsModel(QAbstractTableModel):
    """Rows of the store. `refreshed()`: they are those on the disk; `trouble(KdError)`: it cannot be read."""

    refreshed = Signal()
    trouble = Signal(object)

    def __init__(self, store: Store, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._store = store
        self._rows: list[RunInfo] = []
        self._figures: dict[str, Figures] = {}
        self._kept: Kept = {}
        self._live = ""
        self._feed: Feed | None = None
        self._asked = self._again = False
        self._reading = Reading(self)
        self._reading.done.connect(self._scanned)

    # -- what a panel asks

    @property
    def live(self) -> str:
        """The name of the run in motion, "" when there is none."""
        return self._live

    def run_at(self, row: int) -> RunInfo:
        return self._rows[row]

    def row_of(self, name: str) -> int | None:
        return next((row for row, info in enumerate(self._rows) if info.name == name), None)

    def find(self, name: str) -> RunInfo | None:
        row = self.row_of(name)
        return None if row is None else self._rows[row]

    # -- what changes it

    def refresh(self) -> None:
        """Look at the store, elsewhere and soon; cheap when nothing changed. Safe to call often."""
        if self._asked:
            self._again = True
            return
        self._asked = True
        self._reading.ask(self._store, partial(scan, self._store, self._kept))

    def set_store(self, store: Store) -> None:
        """Another folder of runs."""
        self._store, self._kept, self._asked, self._again = store, {}, False, False
        self._replace([])
        self.refresh()

    def set_live(self, name: str) -> None:
        """Which run is in motion, "" for none."""
        if name != self._live:
            before, self._live = self._live, name
            self._touch(before)
            self._touch(name)
            if name and self.row_of(name) is None:
                self.refresh()

    def follow(self, feed: Feed) -> None:
        """While `feed` tells of the live run, its row shows what is known so far."""
        self._feed = feed
        feed.run_changed.connect(self._follow)

    def _follow(self) -> None:
        if self._feed is None or not self._live or self._feed.run != self._live:
            return
        now = live_figures(self._feed)
        if now != self._figures.get(self._live):
            self._figures[self._live] = now
            self._touch(self._live)

    def _touch(self, name: str) -> None:
        row = self.row_of(name) if name else None
        if row is not None:
            self.dataChanged.emit(self.index(row, 0), self.index(row, COLUMNS - 1))

    def _scanned(self, store: object, result: object) -> None:
        if store is not self._store:
            return  # of the folder before
        self._asked = False
        if isinstance(result, KdError):
            self.trouble.emit(result)
        else:
            assert isinstance(result, tuple)
            self._kept = result[1]
            self._replace(result[0])
            self._follow()
        if self._again:
            self._again = False
            self.refresh()
            return
        self.refreshed.emit()

    def _replace(self, infos: list[RunInfo]) -> None:
        """Make the rows `infos`, and say what changed as narrowly as can be, so that a selection stays."""
        wanted = [info.name for info in infos]
        names = set(wanted)
        for row in reversed(range(len(self._rows))):
            if self._rows[row].name not in names:
                self.beginRemoveRows(QModelIndex(), row, row)
                del self._rows[row]
                self.endRemoveRows()
        left = [info.name for info in self._rows]
        there = set(left)
        if not left or left != [name for name in wanted if name in there]:
            self.beginResetModel()
            self._rows = list(infos)
            self._figures = {info.name: figures(info) for info in infos}
            self.endResetModel()
            return
        for row, info in enumerate(infos):
            if info.name not in there:
                self.beginInsertRows(QModelIndex(), row, row)
                self._rows.insert(row, info)
                self._figures[info.name] = figures(info)
                self.endInsertRows()
            elif info != self._rows[row]:
                self._rows[row] = info
                self._figures[info.name] = figures(info)
                self._touch(info.name)

    # -- Qt

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 (Qt's own default)
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else COLUMNS

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation != Qt.Orientation.Horizontal or not 0 <= section < COLUMNS:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            titles = ("", self.tr("run"), self.tr("T"), self.tr("best acc."), self.tr("retention"))
            return (*titles, self.tr("size"), self.tr("time"))[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(section)
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid() or not 0 <= index.row() < len(self._rows):
            return None
        info, column = self._rows[index.row()], index.column()
        live = bool(self._live) and info.name == self._live
        if role == LIVE:
            return live
        if role == STATUS:
            return "live" if live else info.status
        if role == WHEN:
            return info.created
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(column)
        shown = self._figures.get(info.name, Figures())
        if role == SORT:
            return run_figures.sort_key(info, shown, column)
        if role == Qt.ItemDataRole.DisplayRole:
            return run_figures.cell(info, shown, column, live)
        if role == Qt.ItemDataRole.ToolTipRole:
            return run_figures.tooltip(info, shown, column, live)
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return run_figures.cell(info, shown, column, live) or run_figures.status(info, live)
        return None


def _alignment(column: int) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignLeft if column <= NAME else Qt.AlignmentFlag.AlignRight
    return side | Qt.AlignmentFlag.AlignVCenter

"""The table of runs: newest first, the live one in the student's colour; choose one to look at it again."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import (
    QItemSelection,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QSize,
    QSortFilterProxyModel,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import (
    QAction,
    QHideEvent,
    QKeySequence,
    QResizeEvent,
    QShowEvent,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QMenu,
    QPushButton,
    QTableView,
    QWidget,
)

from kd_engine.store import LAST, RunInfo
from kd_gui.panels.empty import Empty, Filled, keep_room
from kd_gui.panels.run_delegate import ROW, RunDelegate
from kd_gui.state.run_figures import BEST, DOT, NAME, RETENTION, SIZE, TEMPERATURE, TIME
from kd_gui.state.runs import SORT, RunsModel
from kd_gui.theme import theme
from kd_gui.theme.widgets import Card, PillButton

REFRESH_MS = 2000
MARGIN = 15  # of a card, with its border
NAME_LEAST = 110  # before the name gets less, the columns that matter least give way
WIDTHS = {DOT: 22, TEMPERATURE: 44, BEST: 72, RETENTION: 74, SIZE: 68, TIME: 60}
Index = QModelIndex | QPersistentModelIndex


class RunsPanel(Card):
    """The runs of a model. All signals carry a run's name; whoever owns the store acts.

    `chosen`: look at it. `export_asked`, `resume_asked`, `delete_asked`: do that, asking
    first where one should.
    """

    chosen = Signal(str)
    export_asked = Signal(str)
    resume_asked = Signal(str)
    delete_asked = Signal(str)
    start_asked = Signal()

    def __init__(self, model: RunsModel, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.set_title(self.tr("Runs"))
        self._model = model
        self.proxy = Newest(self)
        self.proxy.setSourceModel(model)
        self.table = self._make_table()
        self._actions = self._make_actions()
        empty = Empty(
            self.tr("Every run is kept here, to be looked at again and exported."), self.tr("Distill")
        )
        empty.asked.connect(self.start_asked)
        self.content = Filled(empty, self.table)
        self.body.addWidget(self.content)
        self._timer = QTimer(self, interval=REFRESH_MS)
        self._timer.timeout.connect(model.refresh)
        self.table.selectionModel().selectionChanged.connect(self._selected)
        self.table.customContextMenuRequested.connect(self._open_menu)
        for signal in (model.rowsInserted, model.rowsRemoved, model.modelReset):
            signal.connect(self._count)
        model.dataChanged.connect(self._enable)
        theme().changed.connect(self.table.viewport().update)
        self._count()
        self._enable()

    def _make_table(self) -> QTableView:
        table = QTableView(self)
        table.setModel(self.proxy)
        table.setItemDelegate(RunDelegate(table))
        table.setAccessibleName(self.tr("Runs"))
        table.setShowGrid(False)
        table.setSortingEnabled(True)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        table.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        table.setTabKeyNavigation(False)
        table.setWordWrap(False)
        table.setMinimumHeight(3 * ROW)
        table.verticalHeader().hide()
        table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        table.verticalHeader().setDefaultSectionSize(ROW)
        header = table.horizontalHeader()
        header.setStyleSheet("QHeaderView::section { font-size: 11px; }")
        header.setHighlightSections(False)
        header.setMinimumSectionSize(20)
        header.setSortIndicatorClearable(True)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column, width in WIDTHS.items():
            table.setColumnWidth(column, width)
        return table

    def _make_actions(self) -> dict[str, QAction]:
        """The three actions, as quiet buttons in the card's corner and in the table's menu."""
        made = {}
        for key, title, signal in (
            ("export", self.tr("Export …"), self.export_asked),
            ("resume", self.tr("Resume"), self.resume_asked),
            ("delete", self.tr("Delete …"), self.delete_asked),
        ):
            action = QAction(title, self)
            action.triggered.connect(lambda _checked=False, signal=signal: self._ask(signal))
            button = PillButton(title, self)
            keep_room(button)
            button.clicked.connect(action.trigger)
            action.changed.connect(lambda action=action, button=button: _mirror(action, button))
            self.header.addWidget(button)
            made[key] = action
        made["delete"].setShortcut(QKeySequence(QKeySequence.StandardKey.Delete))
        made["delete"].setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        self.table.addAction(made["delete"])
        return made

    def action(self, key: str) -> QAction:
        """ "export", "resume" or "delete"."""
        return self._actions[key]

    def current(self) -> RunInfo | None:
        """The selected run."""
        rows = self.table.selectionModel().selectedRows()
        return self._model.run_at(self.proxy.mapToSource(rows[0]).row()) if rows else None

    def select(self, name: str) -> None:
        """Show a run as selected without saying that it was chosen; "" selects none."""
        row = self._model.row_of(name) if name else None
        selection = self.table.selectionModel()
        selection.blockSignals(True)
        if row is None:
            self.table.clearSelection()
        else:
            self.table.selectRow(self.proxy.mapFromSource(self._model.index(row, 0)).row())
        selection.blockSignals(False)
        self.table.viewport().update()
        self._enable()

    def _ask(self, signal: Any) -> None:
        info = self.current()
        if info is not None:
            signal.emit(info.name)

    def _selected(self, selected: QItemSelection, _deselected: QItemSelection) -> None:
        self._enable()
        info = self.current()
        if info is not None and not selected.isEmpty():
            self.chosen.emit(info.name)

    def _enable(self) -> None:
        info = self.current()
        live = info is not None and info.name == self._model.live
        idle = info is not None and not live and info.status != "running"
        self._actions["export"].setEnabled(idle and info is not None and exportable(info))
        self._actions["resume"].setEnabled(idle and info is not None and info.resumable)
        self._actions["resume"].setVisible(idle and info is not None and info.resumable)
        self._actions["delete"].setEnabled(idle)
        for key in ("export", "delete"):
            self._actions[key].setVisible(info is not None)

    def _open_menu(self, at: QPoint) -> None:
        if self.table.indexAt(at).isValid():
            menu = QMenu(self.table)
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.addActions(list(self._actions.values()))
            menu.popup(self.table.viewport().mapToGlobal(at))

    def _count(self) -> None:
        self.content.set_filled(self._model.rowCount() > 0)
        self._enable()

    def sizeHint(self) -> QSize:
        return QSize(540, 160)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Where it is narrow, time and then size go without: the tooltip has them."""
        super().resizeEvent(event)
        room = self.width() - 2 * MARGIN - sum(WIDTHS.values())
        self.table.setColumnHidden(TIME, room < NAME_LEAST)
        self.table.setColumnHidden(SIZE, room + WIDTHS[TIME] < NAME_LEAST)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._model.refresh()
        self._timer.start()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._timer.stop()


class Newest(QSortFilterProxyModel):
    """Sorts by figures, unknown ones last either way; unsorted means newest first."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setSortRole(SORT)

    def lessThan(self, left: Index, right: Index) -> bool:
        a, b = left.data(SORT), right.data(SORT)
        if a is None or b is None:
            rising = self.sortOrder() == Qt.SortOrder.AscendingOrder
            return (a is not None and b is None) == rising if a is not b else False
        return bool(a < b)


def exportable(info: RunInfo) -> bool:
    """Whether it left weights behind."""
    return info.status != "running" and (info.folder / LAST).is_file()


def _mirror(action: QAction, button: QPushButton) -> None:
    """A button shows what its action says."""
    button.setVisible(action.isVisible())
    button.setEnabled(action.isEnabled())


def demo() -> QWidget:
    """A store of made-up runs; the newest one is live."""
    import shutil
    import tempfile
    from functools import partial
    from pathlib import Path

    from kd_engine.store import Store
    from kd_gui.state import rehearsal
    from kd_gui.state.feed import Feed

    folder = Path(tempfile.mkdtemp(prefix="kd-runs-"))
    live = rehearsal.fill_store(folder)
    model = RunsModel(Store(folder))
    panel = RunsPanel(model)
    model.setParent(panel)
    panel.destroyed.connect(partial(shutil.rmtree, folder, ignore_errors=True))
    feed = Feed(panel)
    model.follow(feed)
    model.set_live(live)
    feed.take(rehearsal.events(until=9.3, run=live))
    model.refreshed.connect(lambda: feed.run_changed.emit())
    panel.resize(568, 160)
    return panel


if __name__ == "__main__":
    from kd_gui.app import show_alone

    show_alone(demo)

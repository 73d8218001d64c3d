"""The window: puts panels, bars and dialogs together and connects actions. It decides nothing; the studio
does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QByteArray, QEvent, QSettings, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QKeyEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QMainWindow,
    QPlainTextEdit,
    QSplitter,
    QWidget,
)

from kd_gui.actions import SPECS, Actions
from kd_gui.log import Log
from kd_gui.panels.evaluation import EvaluationPanel
from kd_gui.panels.experiment import ExperimentPanel
from kd_gui.panels.race import RacePanel
from kd_gui.panels.runs import RunsPanel
from kd_gui.panels.sees import SeesPanel
from kd_gui.panels.soft_targets import SoftTargetsPanel
from kd_gui.state.phase import Phase
from kd_gui.state.studio import Studio
from kd_gui.theme import theme
from kd_gui.theme.widgets import SPACE, Card, Rule
from kd_gui.views.columns import Rows, Scrolling, stacked
from kd_gui.views.dialogs import Dialogs
from kd_gui.views.log_view import LogView
from kd_gui.views.notice_bar import NoticeBar
from kd_gui.views.status_line import StatusLine
from kd_gui.views.top_bar import TopBar

SIZE = (1280, 800)
COLUMNS = (264, 568, 400)
ROWS = (243, 155, 111, 0, 147)  # the evaluation takes the place of those above it


class MainWindow(QMainWindow):
    """`first_painted`: the window is on the screen; the engine may start."""

    first_painted = Signal()

    def __init__(self, studio: Studio, log: Log, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(self.tr("KD Studio"))
        self.resize(*SIZE)
        self.setMinimumSize(1024, 640)
        self._studio = studio
        self._leaving = self._detach = self._painted = False
        self._curves_sizes = list(ROWS)  # of the rows while the evaluation is shown
        self.dialogs = Dialogs(studio, self)
        self.actions_ = Actions(studio, self)
        self.top = TopBar(studio, self.actions_, self)
        self.notice_bar = NoticeBar(studio.notices, self)
        self.log_view = LogView(log, self)
        self.status = StatusLine(studio, self.actions_, self)
        self._make_panels()
        self._lay_out()
        self._make_menus()
        self._connect()
        self._restore()

    def _make_panels(self) -> None:
        studio = self._studio
        self.experiment = ExperimentPanel(studio.draft)
        self.live = self.experiment.live
        self.loss: QWidget = Card(self.tr("Loss"))
        self.accuracy: QWidget = Card(self.tr("Validation accuracy"))
        self.race = RacePanel(studio.feed)
        self.evaluation = EvaluationPanel(studio.evaluation)
        self.runs = RunsPanel(studio.runs)
        self.sees = SeesPanel(studio.samples)
        self.soft_targets = SoftTargetsPanel(studio.samples)

    def _lay_out(self) -> None:
        self.rows = Rows(Qt.Orientation.Vertical, childrenCollapsible=False, handleWidth=SPACE)
        for panel in (self.loss, self.accuracy, self.race, self.evaluation, self.runs):
            self.rows.addWidget(panel)
        self.evaluation.hide()
        self.rows.setSizes(list(ROWS))
        self.columns = QSplitter(Qt.Orientation.Horizontal, childrenCollapsible=False, handleWidth=SPACE)
        middle = Scrolling(self.notice_bar, self.rows)
        right = Scrolling(self.sees, self.soft_targets, space=SPACE, beyond=SPACE)
        for column in (self.experiment, middle, right):
            self.columns.addWidget(column)
        self.columns.setSizes(list(COLUMNS))
        for i in range(3):
            self.columns.setStretchFactor(i, int(i == 1))
        panels = stacked(self.columns, self.log_view, space=SPACE)
        panels.layout().setContentsMargins(SPACE, SPACE, 0, SPACE)  # to the right lies a scroll bar's room
        self.log_view.hide()
        self.setCentralWidget(stacked(self.top, Rule(), panels, Rule(), self.status))

    def _make_menus(self) -> None:
        menus = {
            self.tr("&File"): ("open_recipe", "open_runs", "save_recipe", "", "export", "cache", "", "quit"),
            self.tr("&Edit"): ("undo", "redo", "", "reset"),
            self.tr("&Run"): (
                "distill", "pause", "go_on", "", "step_batch", "step_epoch", "",
                "stop_and_keep", "discard", "", "back",
            ),
            self.tr("&View"): ("evaluation", "", "theme_system", "theme_light", "theme_dark", "", "log"),
            self.tr("&Help"): ("keys", "about"),
        }  # fmt: skip
        for title, names in menus.items():
            menu = self.menuBar().addMenu(title)
            for name in names:
                menu.addAction(self.actions_[name]) if name else menu.addSeparator()
        self.addActions(self.actions_.all())

    def _connect(self) -> None:
        studio = self._studio
        does: dict[str, Callable[[], object]] = {
            "distill": studio.distill,
            "pause": studio.pause,
            "go_on": studio.go_on,
            "step_batch": lambda: studio.step("batch"),
            "step_epoch": lambda: studio.step("epoch"),
            "stop_and_keep": studio.stop_and_keep,
            "discard": self.dialogs.ask_discard,
            "back": studio.back,
            "open_recipe": lambda: self.dialogs.choose_recipe(self.open_path),
            "open_runs": self.dialogs.choose_runs,
            "save_recipe": self.dialogs.choose_save,
            "export": self.dialogs.export_shown,
            "cache": self.dialogs.show_cache,
            "quit": self.close,
            "undo": studio.draft.undo,
            "redo": studio.draft.redo,
            "reset": studio.draft.reset,
            "theme_toggle": lambda: theme().set_dark(not theme().tokens.dark, remember=True),
            "theme_system": lambda: theme().set_dark(None, remember=True),
            "theme_light": lambda: theme().set_dark(False, remember=True),
            "theme_dark": lambda: theme().set_dark(True, remember=True),
            "evaluation": self._toggle_evaluation,
            "log": self._toggle_log,
            "keys": lambda: self.dialogs.show_keys(self.actions_),
            "about": self.dialogs.about,
        }
        for spec in SPECS:
            act = does[spec.name]
            self.actions_[spec.name].triggered.connect(lambda _checked=False, act=act: act())
        self.top.preset_chosen.connect(studio.load_preset)
        self.runs.chosen.connect(studio.look_at)
        self.runs.delete_asked.connect(self.dialogs.ask_delete)
        self.runs.export_asked.connect(self.dialogs.export)
        self.runs.resume_asked.connect(studio.resume)
        studio.export_wanted.connect(self.dialogs.export_shown)
        studio.evaluation_wanted.connect(self.show_evaluation)
        self.race.evaluation_asked.connect(self.show_evaluation)
        self.evaluation.closed.connect(self.actions_["evaluation"].trigger)
        self.evaluation.start_asked.connect(self.actions_["distill"].trigger)
        studio.became_ready.connect(self._pulse_once)
        studio.knob_confirmed.connect(self.live.confirm)
        studio.knob_refused.connect(self.live.refuse)
        studio.state_changed.connect(self._state_changed)
        for panel in (self.race, self.runs):
            panel.start_asked.connect(self.actions_["distill"].trigger)
        theme().changed.connect(self._check_theme)
        self._check_theme()

    def add_curves(self) -> None:
        """Put the curves in the place of the empty cards. After the first paint: pyqtgraph takes a quarter of
        a second to import."""
        from kd_gui.panels.accuracy import AccuracyPanel
        from kd_gui.panels.loss import LossPanel

        loss, accuracy = LossPanel(self._studio.feed), AccuracyPanel(self._studio.feed)
        loss.pointed.connect(accuracy.point_at)
        accuracy.pointed.connect(loss.point_at)
        sizes = self.rows.sizes()
        for place, panel in enumerate((loss, accuracy)):
            panel.start_asked.connect(self.actions_["distill"].trigger)
            self.rows.replaceWidget(place, panel).deleteLater()
        self.rows.setSizes(sizes)
        self.loss, self.accuracy = loss, accuracy

    # ---- following the state -------------------------------------------------------------------------------
    def _state_changed(self) -> None:
        studio = self._studio
        self.experiment.set_locked(studio.is_live)
        self.live.set_running(studio.phase in (Phase.RUNNING, Phase.PAUSED))

    def open_path(self, path: str) -> None:
        """A recipe file, or a run's folder, by name."""
        if Path(path).is_dir():
            self._studio.open_run(Path(path))
        else:
            self._studio.open_recipe(path)

    # ---- smaller things ------------------------------------------------------------------------------------
    def _toggle_log(self) -> None:
        self.log_view.setVisible(self.actions_["log"].isChecked())

    def show_log(self) -> None:
        self.actions_["log"].setChecked(True)
        self._toggle_log()

    def show_evaluation(self) -> None:
        """In the place of the curves and the race."""
        if not self.actions_["evaluation"].isChecked():
            self.actions_["evaluation"].trigger()

    def _toggle_evaluation(self) -> None:
        """Curves or evaluation: each page of the column keeps the heights that its splitter had."""
        shown = self.actions_["evaluation"].isChecked()
        sizes = self.rows.sizes()
        for panel in (self.loss, self.accuracy, self.race):
            panel.setVisible(not shown)
        self.evaluation.setVisible(shown)
        if shown:
            self._curves_sizes = sizes
            self.rows.setSizes([0, 0, 0, sum(sizes[:-1]), sizes[-1]])
        else:
            self.rows.setSizes(self._curves_sizes)

    def _pulse_once(self) -> None:
        if self.top.primary.isEnabled():
            self.top.primary.pulse()

    def _check_theme(self) -> None:
        names = {None: "theme_system", False: "theme_light", True: "theme_dark"}
        self.actions_[names[theme().choice]].setChecked(True)

    def _restore(self) -> None:
        """Size and splitters as they were left."""
        settings = QSettings()
        for key, restore in (
            ("window/geometry", self.restoreGeometry),
            ("window/columns", self.columns.restoreState),
            ("window/panels", self.rows.restoreState),
        ):
            kept = settings.value(key)
            if isinstance(kept, QByteArray):
                restore(kept)

    def _remember(self) -> None:
        settings = QSettings()
        if self.actions_["evaluation"].isChecked():
            self.actions_["evaluation"].trigger()  # the curves' heights are what is kept
        settings.setValue("window/geometry", self.saveGeometry())
        settings.setValue("window/columns", self.columns.saveState())
        settings.setValue("window/panels", self.rows.saveState())
        settings.setValue("experiment/document", json.dumps(self._studio.draft.document))
        settings.setValue("experiment/preset", self._studio.draft.preset)

    # ---- leaving -------------------------------------------------------------------------------------------
    def _leave(self, key: str) -> None:
        """What shall become of a live run; stopping takes a moment, and the window closes when it is done."""
        studio = self._studio
        if key == "train" or (key and not studio.is_live):  # or it has ended meanwhile
            self._detach = studio.is_live
            QTimer.singleShot(0, self, self.close)
        elif key:
            self._leaving = True
            studio.ended.connect(self.close)
            studio.stop_and_keep() if key == "stop" else studio.discard()

    def _first_paint(self) -> None:
        self.setFocus()  # no button asks for the keys by itself
        self.first_painted.emit()
        self.add_curves()

    # ---- Qt ------------------------------------------------------------------------------------------------
    def closeEvent(self, event: QCloseEvent) -> None:
        waits = self._studio.is_live and not self._detach
        if waits and not self._leaving:
            self.dialogs.ask_close(self._leave)
        if waits:
            event.ignore()
            return
        self._remember()
        self.hide()
        self._studio.shut_down(detach=self._detach)
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter starts a run, unless a field or a table has the keys."""
        editing = (QLineEdit, QAbstractSpinBox, QComboBox, QPlainTextEdit, QAbstractItemView)
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and not isinstance(QApplication.focusWidget(), editing):
            self.actions_["distill"].trigger()
            return
        super().keyPressEvent(event)

    def event(self, event: QEvent) -> bool:
        handled = super().event(event)
        if event.type() == QEvent.Type.Paint and not self._painted:
            self._painted = True
            QTimer.singleShot(0, self, self._first_paint)
        return handled

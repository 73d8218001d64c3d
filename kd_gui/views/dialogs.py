"""The window's dialogs, at most one at a time and none blocking: questions, files, export, keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QDialog, QFileDialog, QWidget

from kd_engine.store import RunFolder
from kd_gui.actions import Actions
from kd_gui.state.studio import Studio
from kd_gui.state.teacher_cache import TeacherCache
from kd_gui.views.cache_dialog import CacheDialog
from kd_gui.views.export_dialog import Exportable, ExportDialog
from kd_gui.views.keys_sheet import KeysSheet
from kd_gui.views.question import Choice, Question

SAVE, OPEN = QFileDialog.AcceptMode.AcceptSave, QFileDialog.AcceptMode.AcceptOpen


class Dialogs(QObject):
    """current: the dialog that is open, None when there is none."""

    def __init__(self, studio: Studio, window: QWidget) -> None:
        super().__init__(window)
        self.current: QDialog | None = None
        self._studio = studio
        self._window = window

    def open(self, dialog: QDialog) -> None:
        """Show a dialog, unless one is open already: that one comes to the front."""
        if self.current is not None:
            dialog.deleteLater()
            self.current.raise_()
            return
        self.current = dialog
        dialog.finished.connect(self._closed)
        dialog.open()

    def _closed(self) -> None:
        if self.current is not None:
            self.current.deleteLater()
        self.current = None

    # ---- questions -----------------------------------------------------------------------------------------
    def ask_close(self, then: Callable[[str], object]) -> None:
        """What becomes of a live run: "train", "stop", "discard", or "" for do not close."""
        choices = (
            Choice(
                "train", self.tr("Keep training"), self.tr("The run goes on without the window."), "primary"
            ),
            Choice("stop", self.tr("Stop and save"), self.tr("It can be resumed later.")),
            Choice("discard", self.tr("Discard"), self.tr("Its folder is removed."), "danger"),
            Choice("", self.tr("Cancel"), self.tr("The window stays.")),
        )
        text = self.tr("What shall become of it when the window closes?")
        self._ask(Question(self.tr("A run is going"), text, choices, self._window), then)

    def ask_discard(self) -> None:
        choices = (
            Choice(
                "discard", self.tr("Discard"), self.tr("The run ends and its folder is removed."), "danger"
            ),
            Choice("", self.tr("Cancel"), self.tr("The run goes on.")),
        )
        text = self.tr("What it has learned so far will be lost.")
        question = Question(self.tr("Discard this run?"), text, choices, self._window)
        self._ask(question, lambda key: self._studio.discard() if key else None)

    def ask_delete(self, name: str) -> None:
        choices = (
            Choice("delete", self.tr("Delete"), self.tr("Its folder is removed for good."), "danger"),
            Choice("", self.tr("Cancel"), self.tr("Nothing happens.")),
        )
        question = Question(self.tr("Delete this run?"), name, choices, self._window)
        self._ask(question, lambda key: self._studio.delete_run(name) if key else None)

    def _ask(self, question: Question, then: Callable[[str], object]) -> None:
        question.chosen.connect(then)
        self.open(question)

    # ---- export --------------------------------------------------------------------------------------------
    def export_shown(self) -> None:
        """Export the student of the run that the panels show."""
        folder = self._studio.folder()
        if folder is not None:
            self.export(folder.name)

    def export(self, name: str) -> None:
        """Export a stored run's student."""
        studio, catalog = self._studio, self._studio.draft.catalog
        info = studio.store.info(RunFolder(studio.store.root / name))  # two small files, as they are now
        if info is None or catalog is None:
            return
        run = Exportable(info.name, info.title, info.folder, info.summary)
        dialog = ExportDialog(run, catalog.of("exporters"), self._window)
        dialog.wanted.connect(lambda *what: studio.questions.export(info.folder, *what))
        studio.questions.exported.connect(dialog.saved)
        studio.questions.export_failed.connect(dialog.failed)
        self.open(dialog)

    # ---- files ---------------------------------------------------------------------------------------------
    def choose_recipe(self, then: Callable[[str], object]) -> None:
        self.open(self._recipe_file(self.tr("Open recipe"), OPEN, then))

    def choose_save(self) -> None:
        self.open(self._recipe_file(self.tr("Save recipe as"), SAVE, self._studio.save_recipe))

    def choose_runs(self) -> None:
        dialog = QFileDialog(self._window, self.tr("Folder of runs"), str(self._studio.store.root))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.fileSelected.connect(lambda path: self._studio.set_runs_folder(Path(path)))
        self.open(dialog)

    def _recipe_file(
        self, title: str, mode: QFileDialog.AcceptMode, then: Callable[[str], object]
    ) -> QFileDialog:
        dialog = QFileDialog(self._window, title)
        dialog.setAcceptMode(mode)
        dialog.setNameFilter(self.tr("Recipes (*.json)"))
        dialog.setDefaultSuffix("json")
        dialog.fileSelected.connect(then)
        return dialog

    # ---- cache ---------------------------------------------------------------------------------------------
    def show_cache(self) -> None:
        """What is kept of teachers' answers."""
        cache = TeacherCache()
        dialog = CacheDialog(cache, self._window)
        cache.setParent(dialog)
        self.open(dialog)

    # ---- help ----------------------------------------------------------------------------------------------
    def show_keys(self, actions: Actions) -> None:
        self.open(KeysSheet(actions, self._window))

    def about(self) -> None:
        text = self.tr("A desktop studio for knowledge distillation: steer it, see it, ship it.")
        self.open(Question(self.tr("KD Studio"), text, (Choice("", self.tr("Close")),), self._window))

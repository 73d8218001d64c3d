"""Take the student away: where to, in which format, which weights; afterwards the lines that load it
again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSettings, QStandardPaths, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QFontDatabase, QGuiApplication
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from kd_engine.catalog import Entry
from kd_engine.document import get_at
from kd_gui.state import wording
from kd_gui.theme import font
from kd_gui.theme.widgets import GAP, Caption, IconButton, Text, set_tone, with_role

COPIED_MS = 1500
FORMAT, FIRST_FORMAT = (
    "export/format",
    "safetensors",
)  # where the last choice is kept, and what stands in for it


@dataclass(frozen=True)
class Exportable:
    """A run whose student can be written to a file. summary: as in summary.json, as far as it goes."""

    name: str
    title: str
    folder: Path
    summary: Mapping[str, Any]

    def score(self, weights: str) -> float | None:
        """Top-1 on the test part of the "last" or the "best" weights; None where the run was not examined."""
        try:
            return float(get_at(self.summary, f"students.student.top1_test_{weights}"))
        except (KeyError, TypeError, ValueError):
            return None


class ExportDialog(QDialog):
    """`wanted(format, path, weights)` asks for the file; `saved` and `failed` are called with what came of
    it."""

    wanted = Signal(str, str, str)

    def __init__(self, run: Exportable, formats: Sequence[Entry], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(self.tr("Export student"))
        self.setModal(True)
        self.setFixedWidth(560)
        self._run = run
        self._formats = [entry for entry in formats if not entry.unavailable]
        self._busy = False
        self._code = ""
        self.format = QComboBox(self)
        for entry in self._formats:
            self.format.addItem(f"{entry.title or entry.name} (*{entry.facts['suffix']})", entry.name)
        kept = self.format.findData(QSettings().value(FORMAT, FIRST_FORMAT))
        self.format.setCurrentIndex(max(kept, 0))
        self.format.currentIndexChanged.connect(self._format_changed)
        self.weights = QComboBox(self)
        for name, words in (("last", self.tr("last")), ("best", self.tr("best on validation"))):
            if (run.folder / f"{name}.safetensors").is_file():
                self.weights.addItem(self._scored(name, words), name)
        self.path = QLineEdit(str(proposed_path(run.title, self._suffix())), self)
        self.path.setAccessibleName(self.tr("File"))
        self.path.textChanged.connect(self._refresh)
        self.browse = IconButton("folder", self.tr("Choose a place…"), self)
        self.browse.clicked.connect(self._browse)
        self.explain = Caption("", parent=self)
        self.explain.setWordWrap(True)
        self.message = Text("", parent=self)
        self.message.setWordWrap(True)
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        self.code = QLabel(self, wordWrap=False)
        self.code.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.code.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.code.setTextFormat(Qt.TextFormat.PlainText)
        self.code.setProperty("role", "code")
        self.show_folder = QPushButton(self.tr("Show in folder"), self)
        self.show_folder.clicked.connect(self._show_folder)
        self.copy = QPushButton(self.tr("Copy load code"), self)
        self.copy.clicked.connect(self._copy)
        self.save = QPushButton(self.tr("Save"), self)
        self.save.clicked.connect(self._save)
        self.save.setDefault(True)
        with_role(self.save, "primary")
        self.close_ = QPushButton(self.tr("Close"), self)
        self.close_.clicked.connect(self.reject)
        self._lay_out()
        self._format_changed()

    def saved(self, told: Mapping[str, Any]) -> None:
        """The file is there: {path, card_path, bytes, code}."""
        self._busy = False
        self._code = str(told["code"])
        size = f"{told['bytes'] / 1000:.0f} kB"
        self._say(self.tr("Saved · {size} · {path}").format(size=size, path=told["path"]), "good")
        self.code.setText(self._code)
        for widget in (self.code, self.show_folder, self.copy):
            widget.show()
        self._refresh()
        self.adjustSize()

    def failed(self, why: str) -> None:
        self._busy = False
        self._say(why, "bad")
        self._refresh()

    def _save(self) -> None:
        path = Path(self.path.text()).expanduser()
        if not path.is_absolute():
            path = Path.home() / path
        if not path.parent.is_dir():
            self.failed(self.tr("There is no folder {path}.").format(path=path.parent))
            return
        self._busy = True
        QSettings().setValue(FORMAT, self.format.currentData())
        self._say(self.tr("Saving…"), "muted")
        self._refresh()
        self.wanted.emit(self.format.currentData(), str(path), self.weights.currentData())

    def _refresh(self) -> None:
        self.save.setEnabled(not self._busy and bool(self.path.text().strip()))
        for widget in (self.path, self.format, self.weights, self.browse):
            widget.setEnabled(not self._busy)

    def _say(self, text: str, tone: str) -> None:
        self.message.setText(text)
        set_tone(self.message, tone)  # type: ignore[arg-type]
        self.message.show()

    def _scored(self, name: str, words: str) -> str:
        score = self._run.score(name)
        if score is None:
            return words
        return self.tr("{weights}: {score} on the test part").format(
            weights=words, score=wording.percent(score)
        )

    def _entry(self) -> Entry:
        return self._formats[max(self.format.currentIndex(), 0)]

    def _suffix(self) -> str:
        return str(self._entry().facts["suffix"])

    def _format_changed(self) -> None:
        self.explain.setText(self._entry().help)
        path = Path(self.path.text())
        self.path.setText(str(path.with_suffix(self._suffix())))
        self._refresh()

    def _browse(self) -> None:
        chooser = QFileDialog(self, self.tr("Export student"), self.path.text())
        chooser.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        chooser.setNameFilter(f"{self._entry().title} (*{self._suffix()})")
        chooser.fileSelected.connect(self.path.setText)
        chooser.open()

    def _show_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(Path(self.path.text()).parent)))

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self._code)
        self.copy.setText(self.tr("Copied"))
        QTimer.singleShot(COPIED_MS, self, lambda: self.copy.setText(self.tr("Copy load code")))

    def _lay_out(self) -> None:
        heading = QLabel(self._run.title, self)
        heading.setFont(font("text", bold=True))
        grid = QGridLayout()
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(GAP)
        rows = ((self.tr("Weights"), self.weights), (self.tr("Format"), self.format), ("", self.explain))
        for i, (words, widget) in enumerate(rows):
            grid.addWidget(Text(words, "muted", self), i, 0)
            grid.addWidget(widget, i, 1, 1, 2)
        grid.addWidget(Text(self.tr("File"), "muted", self), 3, 0)
        grid.addWidget(self.path, 3, 1)
        grid.addWidget(self.browse, 3, 2)
        grid.setColumnStretch(1, 1)
        ends = QHBoxLayout()
        ends.setSpacing(GAP)
        for widget in (self.show_folder, self.copy):
            ends.addWidget(widget)
            widget.hide()
        ends.addStretch(1)
        ends.addWidget(self.close_)
        ends.addWidget(self.save)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 18, 20, 18)
        column.setSpacing(12)
        column.addWidget(heading)
        column.addLayout(grid)
        column.addWidget(self.message)
        column.addWidget(self.code)
        column.addLayout(ends)
        self.message.hide()
        self.code.hide()


def proposed_path(title: str, suffix: str) -> Path:
    """In the user's documents, named after the run; a number is added where that is taken."""
    place = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation)
    folder = Path(place) if place and Path(place).is_dir() else Path.home()
    name = re.sub(r"[^\w-]+", "-", title.lower()).strip("-") or "student"
    path, number = folder / f"{name}{suffix}", 2
    while path.exists():
        path, number = folder / f"{name}-{number}{suffix}", number + 1
    return path

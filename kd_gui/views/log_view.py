"""What happened behind the scenes, line by line; below the panels, hidden until asked for."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QFontDatabase
from PySide6.QtWidgets import QPlainTextEdit, QPushButton, QWidget

from kd_gui.log import MOST, Log
from kd_gui.theme.widgets import Card, with_role


class LogView(Card):
    """Follows the log. Lines that come from other threads are added in this one."""

    def __init__(self, log: Log, parent: QWidget | None = None) -> None:
        super().__init__("", parent)
        self.set_title(self.tr("Log"))
        self.text = QPlainTextEdit(self, readOnly=True, maximumBlockCount=MOST)
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setAccessibleName(self.tr("Log"))
        copy = QPushButton(self.tr("Copy"), self)
        copy.clicked.connect(self._copy)
        with_role(copy, "quiet")
        self.header.addWidget(copy)
        self.body.addWidget(self.text)
        self.setFixedHeight(180)
        for line in log.lines:
            self.text.appendPlainText(line)
        log.added.connect(self.text.appendPlainText, Qt.ConnectionType.QueuedConnection)

    def _copy(self) -> None:
        self.text.selectAll()
        self.text.copy()

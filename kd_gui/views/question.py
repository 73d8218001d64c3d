"""A question with a few answers, each with a line on what it does. Non-blocking: `chosen(key)` says which one
it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from kd_gui.theme import font
from kd_gui.theme.widgets import GAP, Caption, with_role


@dataclass(frozen=True)
class Choice:
    """key "" means: never mind. role: how the button looks, "primary", "danger" or ""."""

    key: str
    label: str
    help: str = ""
    role: str = ""


class Question(QDialog):
    """Show with `open()`. Escape answers "" (never mind)."""

    chosen = Signal(str)

    def __init__(
        self, title: str, text: str, choices: Sequence[Choice], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setModal(True)
        self.buttons: dict[str, QPushButton] = {}
        heading = QLabel(title, self)
        heading.setFont(font("text", bold=True))
        words = QLabel(text, self, wordWrap=True)
        words.setProperty("tone", "muted")
        words.setMinimumWidth(380)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 18, 20, 18)
        column.setSpacing(6)
        column.addWidget(heading)
        column.addWidget(words)
        column.addSpacing(GAP)
        for choice in choices:
            column.addLayout(self._row(choice))
        self.setFixedWidth(460)
        self.rejected.connect(lambda: self.chosen.emit(""))

    def _row(self, choice: Choice) -> QHBoxLayout:
        button = QPushButton(choice.label, self)
        button.setMinimumWidth(150)
        if choice.role in ("primary", "danger"):
            with_role(button, choice.role)  # type: ignore[arg-type]
            button.setDefault(choice.role == "primary")
        button.clicked.connect(lambda: self._choose(choice.key))
        self.buttons[choice.key] = button
        row = QHBoxLayout()
        row.setSpacing(12)
        row.addWidget(button)
        help_ = Caption(choice.help, parent=self)
        help_.setWordWrap(True)
        row.addWidget(help_, 1)
        return row

    def _choose(self, key: str) -> None:
        if key:
            self.chosen.emit(key)
            self.accept()
        else:
            self.reject()

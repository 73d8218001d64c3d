"""An empty panel: what will appear here, and the one button that fills it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QStackedLayout, QVBoxLayout, QWidget

from kd_gui.theme.widgets import GAP, Caption, PillButton


class Empty(QWidget):
    """A sentence and a button. `asked()`: the button was pressed."""

    asked = Signal()

    def __init__(self, sentence: str, button: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = words = Caption(sentence)
        words.setWordWrap(True)
        words.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.button = PillButton(button, self)
        self.button.clicked.connect(lambda _checked=False: self.asked.emit())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(GAP)
        column.addStretch(1)
        column.addWidget(words)
        column.addWidget(self.button, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(1)

    def say(self, sentence: str, button: str) -> None:
        """Other words; without any for the button there is none."""
        self.words.setText(sentence)
        self.button.setText(button)
        self.button.setVisible(bool(button))
        self.button.setEnabled(True)


class Filled(QWidget):
    """Shows `content`, or `empty` while there is nothing to show."""

    def __init__(self, empty: Empty, content: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.empty = empty
        self._stack = QStackedLayout(self)
        self._stack.addWidget(empty)
        self._stack.addWidget(content)

    def set_filled(self, filled: bool) -> None:
        self._stack.setCurrentIndex(1 if filled else 0)

    @property
    def filled(self) -> bool:
        return self._stack.currentIndex() == 1


def keep_room(widget: QWidget) -> None:
    """A hidden widget still takes its room, so that a card's header does not jump when it comes."""
    policy = widget.sizePolicy()
    policy.setRetainSizeWhenHidden(True)
    widget.setSizePolicy(policy)

"""A card for one thing that was picked (teacher, student, dataset): its name and facts; a click opens the
choice."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QEnterEvent, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QVBoxLayout, QWidget

from kd_gui.forms.section import chevron
from kd_gui.theme import font, theme
from kd_gui.theme.widgets import GAP

BAR = 3  # the colour bar at the left, pixels


class PickHead(QAbstractButton):
    """Name, second line, arrow."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.line = ""
        self.wrong = False
        theme().changed.connect(self.update)

    def say(self, name: str, line: str) -> None:
        self.line = line
        self.setText(name)
        self.setAccessibleName(f"{name}, {line}")
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(160, 50)

    def enterEvent(self, event: QEnterEvent) -> None:
        self.parentWidget().update()

    def leaveEvent(self, event: QEvent) -> None:
        self.parentWidget().update()

    def paintEvent(self, event: QPaintEvent) -> None:
        tokens = theme().tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        room = self.rect().adjusted(13, 7, -30, -7)
        half = room.height() // 2
        painter.setFont(font("text"))
        painter.setPen(QColor(tokens.text))
        self._text(painter, room.adjusted(0, 0, 0, -half + 2), self.text())
        painter.setFont(font("caption"))
        painter.setPen(QColor(tokens.bad if self.wrong else tokens.muted))
        self._text(painter, room.adjusted(0, half + 2, 0, 0), self.line)
        if self.isEnabled():
            turn = -90 if self.isChecked() else 90
            chevron(painter, self.width() - 15.0, self.height() / 2, QColor(tokens.muted), turn)
        if self.hasFocus():
            painter.setPen(QPen(QColor(tokens.muted), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 6, 6)
        painter.end()

    def _text(self, painter: QPainter, room: QRect, text: str) -> None:
        shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, room.width())
        painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), shown)


class PickCard(QWidget):
    """A `PickHead`; below it, while open, the content that `build` makes (anew after `forget`)."""

    made = Signal(QWidget)

    def __init__(
        self, role: str, build: Callable[[], QWidget], color: str, parent: QWidget | None = None
    ) -> None:
        """role: its accessible name. color: the token of the bar at the left ("teacher", "student",
        "line")."""
        super().__init__(parent)
        self.setAccessibleName(role)
        self._build, self._color = build, color
        self.content: QWidget | None = None
        self.head = PickHead(self)
        self.head.toggled.connect(self._toggle)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)
        self._column.addWidget(self.head)
        theme().changed.connect(self.update)

    def say(self, name: str, line: str, tip: str = "") -> None:
        """The name, the second line, and the whole story for the tooltip."""
        self.head.say(name, line)
        self.head.setToolTip(tip or f"{name}\n{line}")

    def set_wrong(self, wrong: bool) -> None:
        """Whether something inside needs attention: the second line turns red."""
        self.head.wrong = wrong
        self.head.update()

    def set_open(self, open_: bool) -> None:
        self.head.setChecked(open_)

    def is_open(self) -> bool:
        return self.head.isChecked()

    def forget(self) -> None:
        """Make the content anew: at once when open, else when it is opened."""
        if self.content is not None:
            self._column.removeWidget(self.content)
            self.content.hide()
            self.content.deleteLater()  # later: it may be the sender of the signal that led here
            self.content = None
        self._toggle(self.is_open())

    def _toggle(self, open_: bool) -> None:
        if open_ and self.content is None:
            self.content = self._build()
            self.content.setProperty("role", "inset")
            self.content.setContentsMargins(13, 2, GAP + 2, 10)
            self._column.addWidget(self.content)
            self.made.emit(self.content)
        if self.content is not None:
            self.content.setVisible(open_)

    def paintEvent(self, event: QPaintEvent) -> None:
        tokens = theme().tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        shape = QPainterPath()
        shape.addRoundedRect(QRectF(self.rect()), 6, 6)
        painter.setClipPath(shape)
        painter.fillRect(self.rect(), QColor(tokens.hover if self.head.underMouse() else tokens.field))
        color = tokens.faint if self._color == "line" else getattr(tokens, self._color)
        painter.fillRect(0, 0, BAR, self.height(), QColor(color))
        painter.end()

"""A part of a panel that folds away under its name."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QPointF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QEnterEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QVBoxLayout, QWidget

from kd_gui.theme import font, theme
from kd_gui.theme.widgets import GAP


class SectionButton(QAbstractButton):
    """The name with a small arrow that turns when open; a dot where something inside is wrong."""

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setText(title)
        self.setCheckable(True)
        self.setFont(font("text"))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.wrong = False
        theme().changed.connect(self.update)

    def set_wrong(self, wrong: bool) -> None:
        self.wrong = wrong
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(120, 24)

    def enterEvent(self, event: QEnterEvent) -> None:
        self.update()

    def leaveEvent(self, event: QEvent) -> None:
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        tokens = theme().tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        lit = self.underMouse() or self.hasFocus() or self.isChecked()
        ink = QColor(tokens.text if lit else tokens.muted)
        middle = self.height() / 2
        chevron(painter, 4.0, middle, ink, 90 if self.isChecked() else 0)
        painter.setPen(ink)
        room = self.rect().adjusted(16, 0, -14, 0)
        text = painter.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, room.width())
        painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), text)
        if self.wrong:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(tokens.bad))
            painter.drawEllipse(self.width() - 9, round(middle) - 3, 6, 6)
        painter.end()


class Section(QWidget):
    """A `SectionButton` above a content that is made when it is first opened, and again after `forget`."""

    made = Signal(QWidget)

    def __init__(
        self, title: str, build: Callable[[], QWidget], parent: QWidget | None = None, *, open_: bool = False
    ) -> None:
        super().__init__(parent)
        self._build = build
        self.content: QWidget | None = None
        self.button = SectionButton(title, self)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        self._column.addWidget(self.button)
        self.button.toggled.connect(self._toggle)
        self.button.setChecked(open_)

    def set_title(self, title: str) -> None:
        self.button.setText(title)
        self.button.update()

    def set_wrong(self, wrong: bool) -> None:
        """Whether something inside needs attention: a dot says so."""
        self.button.set_wrong(wrong)

    def is_open(self) -> bool:
        return self.button.isChecked()

    def set_open(self, open_: bool) -> None:
        self.button.setChecked(open_)

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
            self.content.setContentsMargins(14, 2, 0, GAP)
            self._column.addWidget(self.content)
            self.made.emit(self.content)
        if self.content is not None:
            self.content.setVisible(open_)


def chevron(painter: QPainter, x: float, y: float, ink: QColor, turn: int) -> None:
    """A small arrow around (x, y): to the right, turned clockwise by so many degrees."""
    painter.save()
    painter.setPen(QPen(ink, 1.5, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin))
    painter.translate(x, y)
    painter.rotate(turn)
    painter.drawPolyline([QPointF(-1.7, -3.4), QPointF(1.7, 0), QPointF(-1.7, 3.4)])
    painter.restore()

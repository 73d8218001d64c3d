"""A slider for a number: a slim groove filled with the student's colour, its value above, typed by a double
click."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, QObject, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QSlider, QWidget

from kd_engine.knobs import Knob
from kd_gui.forms.field import Field, Quiet, is_double_click, is_escape
from kd_gui.forms.scale import position, value_at, written
from kd_gui.theme import theme
from kd_gui.theme.widgets import Text, set_tone

TICKS = 1000  # positions of a slider
RADIUS = 6.5


class Groove(Quiet, QSlider):
    """The bare slider, 0 to `TICKS`. A press anywhere takes the handle there, and the drag goes on from it.

    `moved(position, more)`: by the user, with 0 to 1; more: within the same drag, or the same held key.
    """

    moved = Signal(float, bool)
    typed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self.setRange(0, TICKS)
        self.setSingleStep(TICKS // 100)
        self.setPageStep(TICKS // 10)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFixedHeight(18)
        self.color = ""  # a token's name for the fill; empty: student
        self._dragging = self._held = False
        theme().changed.connect(self.update)

    def place(self, share: float) -> None:
        """Move the handle without telling."""
        blocked = self.blockSignals(True)
        self.setValue(round(share * TICKS))
        self.blockSignals(blocked)
        self.update()

    def _handle(self) -> float:
        return RADIUS + 1 + (self.width() - 2 * RADIUS - 2) * self.value() / TICKS

    def _drag_to(self, x: float, more: bool) -> None:
        share = (x - RADIUS - 1) / max(1.0, self.width() - 2 * RADIUS - 2)
        self.place(min(1.0, max(0.0, share)))
        self.moved.emit(self.value() / TICKS, more)

    def sizeHint(self) -> QSize:
        return QSize(160, 18)

    def minimumSizeHint(self) -> QSize:
        return QSize(60, 18)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return
        self._dragging = True
        # A press on the handle must not move it: the value may be finer than a pixel.
        if abs(event.position().x() - self._handle()) > RADIUS:
            self._drag_to(event.position().x(), False)
            self._held = True
        else:
            self._held = False
        self.update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._dragging:
            self._drag_to(event.position().x(), self._held)
            self._held = True

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._dragging = self._held = False
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_F2):
            self.typed.emit()
            return
        before = self.value()
        super().keyPressEvent(event)
        if self.value() != before:
            self.moved.emit(self.value() / TICKS, event.isAutoRepeat())

    def paintEvent(self, event: QPaintEvent) -> None:
        tokens = theme().tokens
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle, x = self.height() / 2, self._handle()
        ink = QColor(getattr(tokens, self.color or "student") if self.isEnabled() else tokens.faint)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tokens.line))
        painter.drawRoundedRect(QRectF(0, middle - 2, self.width(), 4), 2, 2)
        painter.setBrush(ink)
        painter.drawRoundedRect(QRectF(0, middle - 2, x, 4), 2, 2)
        if self.hasFocus():
            halo = QColor(ink)
            halo.setAlpha(46)
            painter.setBrush(halo)
            painter.drawEllipse(QRectF(x - 9, middle - 9, 18, 18))
        painter.setPen(QPen(ink, 2))
        painter.setBrush(ink if self._dragging else QColor(tokens.surface))
        painter.drawEllipse(QRectF(x - RADIUS + 1, middle - RADIUS + 1, 2 * RADIUS - 2, 2 * RADIUS - 2))
        painter.end()

    def wheelEvent(self, event: Any) -> None:
        before = self.value()
        super().wheelEvent(event)
        if self.value() != before:
            self.moved.emit(self.value() / TICKS, True)


class SliderRow(Field):
    """Label at the left, value and unit at the right, the slider below.

    Arrows and page keys move it; Enter, F2 or a double click on the value types it.
    """

    def __init__(self, knob: Knob, label: str = "", parent: QWidget | None = None) -> None:
        super().__init__(knob, label, parent)
        self._value: float = float(knob.default if knob.default is not None else knob.low or 0.0)
        # A label of its own says what is counted; a unit that only repeats it is left out.
        own = self.label_text == knob.label
        self._has_unit = bool(knob.unit) and not (own and knob.unit in (knob.name, knob.label.lower()))
        self.figure = Text()
        self.unit = Text(knob.unit, "muted")
        self.dot = Text("•", "student")
        self.dot.setToolTip(self.tr("On its way: it applies at the next step."))
        self.dot.hide()
        self.groove = Groove()
        self.typing = QLineEdit()
        self.typing.setFixedWidth(84)
        self.typing.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.typing.hide()
        self._lay_out()
        self.groove.moved.connect(self._move)
        self.groove.typed.connect(self.start_typing)
        self.typing.editingFinished.connect(self._take_typed)
        for part in (self.figure, self.unit, self.typing):
            part.installEventFilter(self)
        self.set_value(self._value)

    def value(self) -> float:
        return self._value

    def set_value(self, value: Any) -> None:
        self._value = value
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            self.figure.setText(str(value))
            return
        self.figure.setText(written(float(value)))
        self.groove.place(position(self.knob, float(value)))
        self._show_error(self.knob.problem(value) or self._told)

    @property
    def pending(self) -> bool:
        return not self.dot.isHidden()

    def set_pending(self, pending: bool) -> None:
        """Whether the value is on its way to a run and not yet in force."""
        self.dot.setVisible(pending)
        set_tone(self.figure, "student" if pending else "")

    def start_typing(self) -> None:
        self.typing.setText(f"{self._value:g}")
        self.figure.hide()
        self.unit.hide()
        self.typing.show()
        self.typing.setFocus()
        self.typing.selectAll()

    def _lay_out(self) -> None:
        line = QHBoxLayout()
        line.setSpacing(4)
        line.addWidget(self.label, 1)
        line.addWidget(self.dot)
        line.addWidget(self.figure)
        line.addWidget(self.unit)
        line.addWidget(self.typing)
        self.unit.setVisible(self._has_unit)
        self.column.setSpacing(1)
        self.column.addLayout(line)
        self.column.addWidget(self.groove)
        self.column.addWidget(self.error)
        self.name(self.groove)

    def _move(self, share: float, more: bool) -> None:
        value = value_at(self.knob, share)
        if value != self._value or self.problem():
            self._value = value
            self.figure.setText(written(value))
            self.offer(value, more=more)

    def _take_typed(self) -> None:
        if self.typing.isHidden():
            return
        value = self.knob.parse(self.typing.text().replace(",", "."))
        if value == self._value or self.offer(value):
            self._stop_typing()
            self.set_value(value)

    def _stop_typing(self) -> None:
        had_focus = self.typing.hasFocus()
        self.typing.hide()
        self.figure.show()
        self.unit.setVisible(self._has_unit)
        self.set_problem(self._told)
        if had_focus:
            self.groove.setFocus()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if watched in (self.figure, self.unit) and is_double_click(event) and self.isEnabled():
            self.start_typing()
            return True
        if watched is self.typing and is_escape(event):
            self._stop_typing()
            return True
        return super().eventFilter(watched, event)

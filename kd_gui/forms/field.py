"""What every control of a setting shares: a label, the help as a tooltip, and a red line with the reason when
wrong."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QKeyEvent, QWheelEvent
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QSpinBox,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionComboBox,
    QVBoxLayout,
    QWidget,
)

from kd_engine.knobs import Knob
from kd_gui.theme.widgets import Caption, Elided, in_lines, restyle

BEARING = 2  # pixels that a style leaves free before and after a drop-down list's text


class Field(QWidget):
    """One setting. `edited(value, more)`: the user set `value`; more: within the same gesture as before.

    A value that is not allowed is not told to anyone; the reason is shown until an allowed one comes.
    """

    edited = Signal(object, bool)

    def __init__(self, knob: Knob, label: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.knob = knob
        self.label_text = label or knob.label
        self.label = Elided(self.label_text)
        self.error = Caption(tone="bad")
        self.error.setWordWrap(True)
        self.error.hide()
        self._told = ""  # a problem that others found (the check, the engine)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(4)
        self.setToolTip(in_lines(tooltip(knob)))

    def value(self) -> Any:
        raise NotImplementedError

    def set_value(self, value: Any) -> None:
        """Show `value`; nothing is emitted."""
        raise NotImplementedError

    def set_problem(self, why: str) -> None:
        """Why others do not accept the value; empty when they do."""
        self._told = why
        self._show_error(why)

    def problem(self) -> str:
        """What is shown as wrong now."""
        return self.error.text()

    def row(self, control: QWidget, *, stretch: int = 0) -> None:
        """The label at the left, `control` at the right, the error below."""
        line = QHBoxLayout()
        line.setSpacing(8)
        line.addWidget(self.label, 1)
        line.addWidget(control, stretch)
        self.column.addLayout(line)
        self.column.addWidget(self.error)
        self.name(control)

    def name(self, control: QWidget) -> None:
        """Make `control` the one that has the focus and the accessible name."""
        control.setAccessibleName(self.label_text)
        control.setAccessibleDescription(self.knob.help)
        self.label.setBuddy(control)
        self.setFocusProxy(control)

    def offer(self, value: Any, *, more: bool = False) -> bool:
        """Check and emit; whether `value` is allowed."""
        why = self.knob.problem(value)
        self._show_error(why or "")
        if why is None:
            self.edited.emit(value, more)
        return why is None

    def _show_error(self, why: str) -> None:
        self.error.setText(why)
        self.error.setVisible(bool(why))
        control = self.focusProxy()
        if control is not None and bool(control.property("invalid")) != bool(why):
            control.setProperty("invalid", bool(why))
            restyle(control)


class Quiet:
    """The wheel scrolls the panel, not the setting under the pointer, unless the control has the focus."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class QuietCombo(Quiet, QComboBox):
    """A drop-down list that may be narrower than its longest item, which is then shortened in its middle:
    names differ at their ends."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)
        self.setItemDelegate(QStyledItemDelegate(self))  # so that the style sheet reaches the items

    def initStyleOption(self, option: QStyleOptionComboBox) -> None:
        super().initStyleOption(option)
        part, whole = QStyle.SubControl.SC_ComboBoxEditField, QStyle.ComplexControl.CC_ComboBox
        room = self.style().subControlRect(whole, option, part, self).width() - 2 * BEARING
        option.currentText = option.fontMetrics.elidedText(
            option.currentText, Qt.TextElideMode.ElideMiddle, room
        )

    def showPopup(self) -> None:
        view = self.view()
        view.setMinimumWidth(max(self.width(), view.sizeHintForColumn(0) + 24))
        super().showPopup()


class QuietSpin(Quiet, QSpinBox):
    """A whole number that does not jump when the wheel passes over it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setKeyboardTracking(False)
        self.setAlignment(Qt.AlignmentFlag.AlignRight)


def tooltip(knob: Knob) -> str:
    """The help, with the range on a second line."""
    if knob.kind in ("bool", "text"):
        return knob.help
    return f"{knob.help}\n{knob.expected()}" if knob.help else knob.expected()


def is_double_click(event: QEvent) -> bool:
    return event.type() == QEvent.Type.MouseButtonDblClick


def is_escape(event: QEvent) -> bool:
    return (
        isinstance(event, QKeyEvent)
        and event.type() == QEvent.Type.KeyPress
        and event.key() == Qt.Key.Key_Escape
    )

"""One control per kind of setting: a choice, a switch, whole numbers, numbers without limits, texts,
paths."""

from __future__ import annotations

from typing import Any

from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QWidget

from kd_engine.knobs import Knob
from kd_gui.forms.field import Field, QuietCombo, QuietSpin
from kd_gui.forms.scale import slides, written
from kd_gui.forms.slider import SliderRow
from kd_gui.forms.switch import Switch
from kd_gui.theme.widgets import IconButton

MOST = 2**31 - 1  # what a spin box can count to
WIDTH = 96  # of a control beside its label
WIDEST = 136  # of a choice


def field_for(knob: Knob, label: str = "", parent: QWidget | None = None) -> Field:
    """The control that suits the knob's kind and range."""
    if knob.kind == "choice":
        return ChoiceField(knob, label, parent)
    if knob.kind == "bool":
        return SwitchField(knob, label, parent)
    if knob.kind == "int":
        return IntField(knob, label, parent)
    if knob.kind == "text":
        return (PathField if is_path(knob) else TextField)(knob, label, parent)
    return (SliderRow if slides(knob) and not knob.optional else NumberField)(knob, label, parent)


def is_path(knob: Knob) -> bool:
    """Whether a text means a place on the disk: by its name, as the recipe check decides it."""
    return knob.kind == "text" and knob.name in ("path", "folder", "file")


class ChoiceField(Field):
    """One of a few words; null, where it is allowed, is shown as a dash."""

    def __init__(self, knob: Knob, label: str = "", parent: QWidget | None = None) -> None:
        super().__init__(knob, label, parent)
        self.combo = QuietCombo()
        if knob.optional:
            self.combo.addItem("–", None)
        for choice in knob.choices:
            self.combo.addItem(choice, choice)
        measure = self.combo.fontMetrics().horizontalAdvance
        longest = max(map(measure, knob.choices), default=0)
        self.combo.setFixedWidth(max(WIDTH + 12, min(longest + 54, WIDEST)))
        self.row(self.combo)
        self.combo.activated.connect(lambda _index: self.offer(self.combo.currentData()))

    def value(self) -> Any:
        return self.combo.currentData()

    def set_value(self, value: Any) -> None:
        self.combo.setCurrentIndex(self.combo.findData(value))
        self._show_error(self.knob.problem(value) or self._told)


class SwitchField(Field):
    """On or off."""

    def __init__(self, knob: Knob, label: str = "", parent: QWidget | None = None) -> None:
        super().__init__(knob, label, parent)
        self.switch = Switch()
        self.row(self.switch)
        self.switch.clicked.connect(lambda on: self.offer(bool(on)))

    def value(self) -> bool:
        return self.switch.isChecked()

    def set_value(self, value: Any) -> None:
        self.switch.setChecked(bool(value))
        self._show_error(self.knob.problem(value) or self._told)


class IntField(Field):
    """A whole number. Null, where it is allowed, stands one step below the least and is shown as "all"."""

    def __init__(self, knob: Knob, label: str = "", parent: QWidget | None = None) -> None:
        super().__init__(knob, label, parent)
        self.spin = QuietSpin()
        self.spin.setFixedWidth(WIDTH)
        low = 0 if knob.low is None else int(knob.low)
        high = MOST if knob.high is None else min(MOST, int(knob.high))
        self._null = low - 1 if knob.optional else None
        self.spin.setRange(low if self._null is None else self._null, high)
        if knob.optional:
            self.spin.setSpecialValueText(self.tr("all"))
        if knob.scale == "log":
            self.spin.setStepType(QuietSpin.StepType.AdaptiveDecimalStepType)
        if knob.unit:
            self.spin.setSuffix(f" {knob.unit}")
        self._wrong = False  # the loaded value is none that the box can show
        self.row(self.spin)
        self.spin.valueChanged.connect(self._edited)
        self.spin.editingFinished.connect(self._put_right)

    def value(self) -> int | None:
        return None if self.spin.value() == self._null else self.spin.value()

    def set_value(self, value: Any) -> None:
        blocked = self.spin.blockSignals(True)
        if value is None and self._null is not None:
            self.spin.setValue(self._null)
        elif isinstance(value, int):
            self.spin.setValue(max(-MOST, min(MOST, value)))
        self.spin.blockSignals(blocked)
        self._wrong = self.value() != value
        self._show_error(self.knob.problem(value) or self._told)

    def _put_right(self) -> None:
        if self._wrong:
            self._wrong = False
            self.offer(self.value())

    def _edited(self, _value: int) -> None:
        self.offer(self.value())


class _LineField(Field):
    """A value that is typed; taken on Enter or when the focus leaves, refused in place when it is not
    allowed."""

    def __init__(self, knob: Knob, label: str = "", parent: QWidget | None = None) -> None:
        super().__init__(knob, label, parent)
        self.line = QLineEdit()
        self._value: Any = knob.default
        self.line.editingFinished.connect(self._take)

    def value(self) -> Any:
        return self._value

    def set_value(self, value: Any) -> None:
        self._value = value
        text = "" if value is None else written(value)
        if not self.line.hasFocus() or not self.problem():
            self.line.setText(text)
            self.line.setCursorPosition(0)
        self._show_error((self.knob.problem(value) if value is not None else "") or self._told)

    def _take(self) -> None:
        value = self.knob.parse(self.line.text())
        if value == self._value or (value == "" and self._value is None):
            self._show_error(self._told)
        elif self.offer(value):
            self._value = value


class NumberField(_LineField):
    """A number without a slider: a limit is open, or null is a value too."""

    def __init__(self, knob: Knob, label: str = "", parent: QWidget | None = None) -> None:
        super().__init__(knob, label, parent)
        self.line.setFixedWidth(WIDTH)
        if knob.optional:
            self.line.setPlaceholderText(self.tr("all"))
        self.row(self.line)


class TextField(_LineField):
    """A text."""

    def __init__(self, knob: Knob, label: str = "", parent: QWidget | None = None) -> None:
        super().__init__(knob, label, parent)
        self.column.addWidget(self.label)
        self.column.addWidget(self.line)
        self.column.addWidget(self.error)
        self.name(self.line)
        self.line.setPlaceholderText("" if knob.default is None else str(knob.default))


class PathField(_LineField):
    """A place on the disk, typed or browsed for. A knob called `file` asks for a file, others for a
    folder."""

    def __init__(self, knob: Knob, label: str = "", parent: QWidget | None = None) -> None:
        super().__init__(knob, label, parent)
        self.browse = IconButton("folder", self.tr("Browse…"))
        self.browse.clicked.connect(self._browse)
        line = QHBoxLayout()
        line.setSpacing(4)
        line.addWidget(self.line, 1)
        line.addWidget(self.browse)
        self.column.addWidget(self.label)
        self.column.addLayout(line)
        self.column.addWidget(self.error)
        self.name(self.line)
        self.line.setPlaceholderText(self.tr("Choose a folder…"))

    def _browse(self) -> None:
        start = self.line.text()
        if self.knob.name == "file":
            chosen = QFileDialog.getOpenFileName(self, self.label_text, start)[0]
        else:
            chosen = QFileDialog.getExistingDirectory(self, self.label_text, start)
        if chosen:
            self.line.setText(chosen)
            self._take()

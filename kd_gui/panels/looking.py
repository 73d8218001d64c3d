"""The controls below the pictures: which map, which place in the models, which epoch."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QAction, QPaintEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QMenu,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QWidget,
)

from kd_gui.forms.slider import Groove
from kd_gui.state.samples import Samples
from kd_gui.theme.widgets import GAP, Caption, PillButton, Text


class _Pill(PillButton):
    """A pill with a menu that ends in an ellipsis where its words do not fit."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("", parent)
        self.setProperty("menu", "true")
        self.setStyleSheet("padding-right: 20px;")  # the arrow's room
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        return QSize(72, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        option = QStyleOptionButton()
        self.initStyleOption(option)
        room = self.width() - 32  # without the rounded end, the arrow and the border
        option.text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, room)
        painter = QStylePainter(self)
        painter.drawControl(QStyle.ControlElement.CE_PushButton, option)


class Chooser(QWidget):
    """A choice as a pill that opens a menu; plain words where there is nothing to choose. `chosen(key)`."""

    chosen = Signal(str)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = Text("", "muted")
        self.button = _Pill()
        self.button.setAccessibleName(name)
        self.menu = QMenu(self)
        self.button.setMenu(self.menu)
        self.menu.triggered.connect(self._choose)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.words)
        row.addWidget(self.button)
        self.setFixedHeight(22)
        self.offer({}, "")

    def offer(self, choices: dict[str, str], current: str) -> None:
        """choices: keys with their words; current: a key."""
        self.menu.clear()
        for key, words in choices.items():
            action = QAction(words, self.menu, checkable=True, checked=key == current)
            action.setData(key)
            self.menu.addAction(action)
        words = choices.get(current, "")
        self.words.setText(words)
        self.button.setText(words)
        self.words.setVisible(len(choices) < 2)
        self.button.setVisible(len(choices) > 1)
        self.setVisible(bool(words))

    def _choose(self, action: QAction) -> None:
        self.chosen.emit(action.data())


class Scrubber(QWidget):
    """The epoch that is looked at, as a slider over the snapshots there are."""

    def __init__(self, samples: Samples, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._samples = samples
        self.words = Caption()
        self.words.setMinimumWidth(76)
        self.groove = Groove()
        self.groove.color = "muted"
        self.groove.setAccessibleName(self.tr("Epoch"))
        self.groove.setToolTip(self.tr("Go back to what the student saw after an earlier epoch."))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(GAP)
        row.addWidget(self.words)
        row.addWidget(self.groove, 1)
        self.groove.moved.connect(self._scrub)
        samples.epochs_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        epochs, epoch = self._samples.epochs, self._samples.epoch
        self.groove.setEnabled(len(epochs) > 1)
        if not epochs:
            self.words.setText(self.tr("no epoch yet"))
            self.groove.place(0.0)
            return
        at = len(epochs) - 1 if epoch is None else epochs.index(epoch)
        self.words.setText(self.tr("epoch {} of {}").format(epochs[at], epochs[-1]))
        self.groove.place(at / (len(epochs) - 1) if len(epochs) > 1 else 1.0)

    def _scrub(self, share: float, _more: bool) -> None:
        epochs = self._samples.epochs
        if epochs:
            self._samples.set_epoch(epochs[round(share * (len(epochs) - 1))])
        self.refresh()  # the handle stands at epochs only

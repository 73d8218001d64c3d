"""Which trained weights a model starts from: none, bundled ones that fit its name, published ones, or a
file."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QWidget

from kd_gui.forms.field import QuietCombo
from kd_gui.state.bundled import bundled
from kd_gui.theme.widgets import Text

_BROWSE = object()


class WeightsField(QWidget):
    """`chosen(str | None)`: as a recipe writes it: null, "bundled:NAME", a library's name, or a file."""

    chosen = Signal(object)

    def __init__(
        self, model: str, current: str | None, *, published: str, parent: QWidget | None = None
    ) -> None:
        """published: the library that has weights for the model, such as "torchvision"; "" for none."""
        super().__init__(parent)
        self.combo = QuietCombo()
        self.combo.setAccessibleName(self.tr("Weights"))
        self.combo.addItem(self.tr("untrained"), None)
        for one in bundled():
            if one.model == model:
                self.combo.addItem(one.name, one.weights)
        if published:
            self.combo.addItem(self.tr("ImageNet ({})").format(published), published)
        self._current = current
        self._show(current)
        self.combo.addItem(self.tr("From a file…"), _BROWSE)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(Text(self.tr("Weights")))
        line.addWidget(self.combo, 1)
        self.combo.activated.connect(self._take)

    def _show(self, weights: str | None) -> None:
        index = next((i for i in range(self.combo.count()) if self.combo.itemData(i) == weights), -1)
        if index < 0:
            last = self.combo.count()
            index = last - 1 if last and self.combo.itemData(last - 1) is _BROWSE else last
            self.combo.insertItem(index, words(weights), weights)
        self.combo.setCurrentIndex(index)

    def _take(self, index: int) -> None:
        weights = self.combo.itemData(index)
        if weights is _BROWSE:
            kinds = self.tr("Weights (*.safetensors *.pt *.pth)")
            weights = QFileDialog.getOpenFileName(self, self.tr("Weights"), "", kinds)[0]
            if not weights:
                self._show(self._current)
                return
        if weights != self._current:
            self._current = weights
            self._show(weights)
            self.chosen.emit(weights)


def words(weights: str | None) -> str:
    """Weights as a recipe writes them, in short."""
    if weights is None:
        return ""
    kind, colon, name = weights.partition(":")
    return name if colon and kind in ("bundled", "run") else Path(weights).name

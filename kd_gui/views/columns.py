"""How panels stand: under each other, with splitters between, and scrolling as late as can be where a window
is short."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QSize, Qt
from PySide6.QtWidgets import QFrame, QScrollArea, QSplitter, QVBoxLayout, QWidget


def stacked(*widgets: QWidget, space: int = 0) -> QWidget:
    """Widgets under each other."""
    box = QWidget()
    column = QVBoxLayout(box)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(space)
    for widget in widgets:
        column.addWidget(widget)
    return box


class Rows(QSplitter):
    """Asks for no more height than it needs, so that a scroll area around it scrolls as late as it can."""

    def sizeHint(self) -> QSize:
        return self.minimumSizeHint()


class Scrolling(QScrollArea):
    """Widgets under each other that scroll where the window is short. beyond: room right of them, in which
    the scroll bar stands when there is one, so that it moves nothing."""

    def __init__(self, *widgets: QWidget, space: int = 0, beyond: int = 0) -> None:
        super().__init__()
        self._beyond = beyond
        self._inside = stacked(*widgets, space=space)
        self._inside.setProperty("role", "pane")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(self._inside)
        self.verticalScrollBar().rangeChanged.connect(self._make_room)
        self._make_room()

    def minimumSizeHint(self) -> QSize:
        bar = 0 if self._beyond else self.verticalScrollBar().sizeHint().width()
        return QSize(self._inside.minimumSizeHint().width() + bar, 120)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """What is inside may need more room than before: the splitter around must know."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)

    def _make_room(self) -> None:
        bar = self.verticalScrollBar()
        taken = bar.sizeHint().width() if bar.maximum() > 0 else 0
        layout = self._inside.layout()
        assert layout is not None
        layout.setContentsMargins(0, 0, max(self._beyond - taken, 0), 0)

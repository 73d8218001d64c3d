"""Show a widget inside a bare window: one whose own layout sets size limits makes the offscreen platform
complain."""

from __future__ import annotations

from typing import Any

from PySide6.QtWidgets import QWidget


def show_inside(qtbot: Any, widget: QWidget, width: int, height: int) -> QWidget:
    """`widget` at this size in a window of its own, shown; the window, which qtbot closes."""
    window = QWidget()
    qtbot.addWidget(window)
    window.resize(width, height)
    widget.setParent(window)
    widget.host = window  # qtbot holds it weakly: it would go with this call
    widget.setGeometry(0, 0, width, height)
    window.show()
    qtbot.waitExposed(window)
    return window

"""Keep in sight what was opened or edited, in a column that scrolls."""

from __future__ import annotations

from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QScrollArea

from kd_gui.forms.section import Section


def reveal(area: QScrollArea, section: Section) -> None:
    """Scroll down to a section that was opened, as far as its name stays in sight."""
    settle(area)
    top = section.mapTo(area.widget(), QPoint(0, 0)).y()
    beyond = top + section.sizeHint().height() - area.viewport().height()
    bar = area.verticalScrollBar()
    if section.is_open() and beyond > bar.value():
        bar.setValue(min(beyond, top))


def settle(area: QScrollArea) -> None:
    """Let the scroll bar learn of a new height at once."""
    inside = area.widget()
    inside.layout().activate()
    inside.resize(inside.width(), inside.sizeHint().height())

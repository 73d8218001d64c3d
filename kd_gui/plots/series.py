"""What a line of a plot is called and how it looks. Apart from the lines, so that naming one imports no
pyqtgraph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import Qt

Style = Callable[[], tuple[str, Qt.PenStyle]]


@dataclass(frozen=True)
class Series:
    """A line's looks. style: colour and dash in today's tokens. thin: a companion of another line. hidden:
    until asked for."""

    key: str
    title: str
    style: Style
    thin: bool = False
    hidden: bool = False

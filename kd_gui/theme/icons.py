"""Small line drawings, tinted with whatever colour the theme asks for."""

from __future__ import annotations

from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from kd_engine import paths


def icon_folder() -> str:
    return str(paths.resources() / "icons")


def icon_names() -> list[str]:
    return sorted(file.stem for file in (paths.resources() / "icons").glob("*.svg"))


def tinted(name: str, color: str, size: int = 16, *, disabled: str = "") -> QIcon:
    """resources/icons/`name`.svg with `currentColor` replaced by `color`, for one to three pixels a point.

    disabled: the colour while its button is disabled; the style's own way when empty. KeyError when there is
    no such icon.
    """
    file = paths.resources() / "icons" / f"{name}.svg"
    if not file.is_file():
        raise KeyError(f"no icon '{name}'; there are: {', '.join(icon_names())}")
    text = file.read_text(encoding="utf-8")
    made = QIcon()
    _add(made, text.replace("currentColor", color), size, QIcon.Mode.Normal)
    if disabled:
        _add(made, text.replace("currentColor", disabled), size, QIcon.Mode.Disabled)
    return made


def _add(made: QIcon, text: str, size: int, mode: QIcon.Mode) -> None:
    renderer = QSvgRenderer(QByteArray(text.encode()))
    for ratio in (1, 2, 3):
        pixmap = QPixmap(size * ratio, size * ratio)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        renderer.render(painter, QRectF(0, 0, size * ratio, size * ratio))
        painter.end()
        pixmap.setDevicePixelRatio(ratio)
        made.addPixmap(pixmap, mode)

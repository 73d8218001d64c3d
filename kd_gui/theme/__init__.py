"""How the window looks: `apply(app)` once, then `theme().tokens` wherever something is painted by hand.

Painters read `theme().tokens` inside paintEvent and call update() on `theme().changed`; widgets use the
style sheet's properties (`role`, `tone`) and need nothing more.
"""

from __future__ import annotations

from PySide6.QtCore import QDir, QObject, QSettings, Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication

from kd_gui.theme import style
from kd_gui.theme import tokens as _tokens
from kd_gui.theme.fonts import Role, font, title_font
from kd_gui.theme.icons import icon_folder, tinted
from kd_gui.theme.tokens import DARK, LIGHT, Tokens

__all__ = [
    "DARK",
    "LIGHT",
    "Role",
    "Theme",
    "Tokens",
    "apply",
    "font",
    "icon",
    "series_style",
    "term_style",
    "theme",
    "title_font",
]

_SETTING = "look/dark"


class Theme(QObject):
    """Which tokens hold now. `changed` comes after the application wears them."""

    changed = Signal()

    def __init__(self, app: QApplication | None = None) -> None:
        super().__init__(app)
        self.tokens = LIGHT
        self._app: QApplication | None = None
        self._choice: bool | None = None

    def dress(self, app: QApplication) -> None:
        """Style `app` now and whenever the tokens change; follow the system unless the user chose."""
        self._app = app
        app.styleHints().colorSchemeChanged.connect(self._follow)
        kept = QSettings().value(_SETTING)
        self._choice = None if kept is None else str(kept).lower() in ("true", "1")
        self.tokens = self._wanted()
        self._wear()

    @property
    def choice(self) -> bool | None:
        """True: dark, False: light, None: as the system."""
        return self._choice

    def set_dark(self, dark: bool | None, *, remember: bool = False) -> None:
        """Dark, light, or (None) as the system says; `remember`: also at the next start."""
        self._choice = dark
        if remember:
            settings = QSettings()
            settings.remove(_SETTING) if dark is None else settings.setValue(_SETTING, dark)
        self._follow()

    def _wanted(self) -> Tokens:
        if self._choice is not None:
            return DARK if self._choice else LIGHT
        dark = self._app is not None and self._app.styleHints().colorScheme() == Qt.ColorScheme.Dark
        return DARK if dark else LIGHT

    def _follow(self) -> None:
        wanted = self._wanted()
        if wanted is not self.tokens:
            self.tokens = wanted
            self._wear()
            self.changed.emit()

    def _wear(self) -> None:
        if self._app is not None:
            self._app.setPalette(style.palette(self.tokens))
            self._app.setStyleSheet(style.sheet(self.tokens))


_theme: Theme | None = None  # one per process, as the QApplication that it dresses


def theme() -> Theme:
    """The application's theme; light until `apply` has dressed an application."""
    global _theme
    if _theme is None:
        _theme = Theme()
    return _theme


def apply(app: QApplication) -> None:
    """Fusion, our palette and style sheet, fonts. Once per application; later calls change nothing."""
    if app.property("dressed"):
        return
    app.setProperty("dressed", True)
    QDir.addSearchPath("icons", icon_folder())
    app.setStyle("Fusion")
    app.setFont(font("text"))
    theme().dress(app)


def icon(name: str, color: str = "", size: int = 16) -> QIcon:
    """An icon in `color` (a token's value; muted ink when empty). Remake it on `theme().changed`."""
    return tinted(name, color or theme().tokens.muted, size, disabled=theme().tokens.faint)


def series_style(name: str, index: int = 0) -> tuple[str, Qt.PenStyle]:
    """Colour and dash of a student's, a rival's or the teacher's curve, in today's tokens."""
    return _tokens.series_style(name, index, theme().tokens)


def term_style(name: str, index: int = 0) -> tuple[str, Qt.PenStyle]:
    """Colour and dash of one term of a loss, in today's tokens; see tokens.term_style."""
    return _tokens.term_style(name, index, theme().tokens)

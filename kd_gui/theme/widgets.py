"""The window's few building blocks: cards, captions, figures, segmented pills, icon buttons."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Literal

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from kd_gui.theme import font, icon, theme, title_font

SPACE = 12  # between and inside cards
GAP = 8  # between controls
TOOLTIP = 64  # letters in a line
CONTROL = 32  # a control's height

Tone = Literal["", "muted", "faint", "teacher", "student", "good", "warn", "bad"]


def restyle(widget: QWidget) -> None:
    """Make the style sheet look again, after a property it selects by has changed."""
    widget.style().unpolish(widget)
    widget.style().polish(widget)


def set_tone(widget: QWidget, tone: Tone) -> None:
    """Colour a label by meaning."""
    if widget.property("tone") != tone:
        widget.setProperty("tone", tone)
        restyle(widget)


class Text(QLabel):
    """13 px text in a tone."""

    def __init__(self, text: str = "", tone: Tone = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setFont(font("text"))
        self.setProperty("tone", tone)


class Caption(QLabel):
    """11 px muted text: second lines, units, hints."""

    def __init__(self, text: str = "", tone: Tone = "muted", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setFont(font("caption"))
        self.setProperty("tone", tone)


class Wrapped(Caption):
    """A caption that wraps, and asks for the lines that it needs also where a splitter would not ask it."""

    def __init__(self, text: str = "", tone: Tone = "muted", parent: QWidget | None = None) -> None:
        super().__init__(text, tone, parent)
        self.setWordWrap(True)

    def set_text(self, text: str) -> None:
        self.setText(text)
        self._fit()

    def _fit(self) -> None:
        needed = self.heightForWidth(self.width())
        if needed > 0 and needed != self.minimumHeight():
            self.setMinimumHeight(needed)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()


class Figure(QLabel):
    """The one number that matters: 22 px, semi-bold, tabular."""

    def __init__(self, text: str = "", tone: Tone = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setFont(font("figure"))
        self.setProperty("tone", tone)


class Elided(QLabel):
    """A label that ends in an ellipsis where it would not fit; the whole text is in the tooltip then."""

    def __init__(self, text: str = "", tone: Tone = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setProperty("tone", tone)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        room = self.contentsRect()
        shown = QFontMetrics(self.font()).elidedText(self.text(), Qt.TextElideMode.ElideRight, room.width())
        self.setToolTip(self.text() if shown != self.text() else "")
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(room, int(self.alignment() | Qt.AlignmentFlag.AlignVCenter), shown)
        painter.end()


class Title(Elided):
    """A panel's name in small spaced capitals; gives way to the controls beside it where a window is
    narrow."""

    LEAST = 64

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, "muted", parent)
        self.setFont(title_font())
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        whole = self.sizeHint()
        return QSize(min(whole.width(), self.LEAST), whole.height())


class Rule(QFrame):
    """A one-pixel line."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "rule")
        self.setFixedHeight(1)


class Card(QFrame):
    """A surface with a caption. `header`: controls go to its right end; `body`: a vertical layout."""

    def __init__(self, title: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "card")
        self.setAccessibleName(title)
        self.title = Title(title, self)
        self.header = QHBoxLayout()
        self.header.setSpacing(GAP)
        self.header.addWidget(self.title)
        self.header.addStretch(1)
        self.body = QVBoxLayout()
        self.body.setSpacing(GAP)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(14, SPACE, 14, SPACE)
        outer.setSpacing(GAP)
        outer.addLayout(self.header)
        outer.addLayout(self.body, 1)
        self.title.setVisible(bool(title))

    def set_title(self, title: str) -> None:
        self.title.setText(title)
        self.title.setVisible(bool(title))
        self.setAccessibleName(title)


class Segmented(QWidget):
    """One of a few options, side by side; the chosen one lies on a pill. `chosen(key)`: the user chose."""

    chosen = Signal(str)

    def __init__(
        self, options: Sequence[str] | Mapping[str, str], current: str = "", parent: QWidget | None = None
    ) -> None:
        """options: keys, or keys with the words to show. current: a key, or the first when empty."""
        super().__init__(parent)
        titles = dict(options) if isinstance(options, Mapping) else {key: key for key in options}
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QPushButton] = {}
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        for key, title in titles.items():
            row.addWidget(self._add(key, title))
        self.set_current(current or next(iter(titles), ""))
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)

    def current(self) -> str:
        return next((key for key, button in self._buttons.items() if button.isChecked()), "")

    def set_current(self, key: str) -> None:
        """Show `key` as chosen, without a signal; KeyError when there is no such option."""
        if key or self._buttons:
            self._buttons[key].setChecked(True)

    def set_title(self, key: str, title: str) -> None:
        """Other words for an option, as a count that has changed: "wrong 12"."""
        self._buttons[key].setText(title)

    def button(self, key: str) -> QPushButton:
        return self._buttons[key]

    def _add(self, key: str, title: str) -> QPushButton:
        button = QPushButton(title, self, checkable=True)
        button.setProperty("role", "segment")
        button.setFont(font("caption"))
        button.clicked.connect(lambda _checked=False, key=key: self.chosen.emit(key))
        self._group.addButton(button)
        self._buttons[key] = button
        return button


class PillButton(QPushButton):
    """A small round-ended button, as for a choice that opens or a chip."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setProperty("role", "pill")
        self.setFont(font("caption"))


class IconButton(QPushButton):
    """A 24-px button that is only an icon; `text` is its tooltip and its accessible name."""

    def __init__(self, name: str, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "icon")
        self.setToolTip(text)
        self.setAccessibleName(text)
        self.setIconSize(QSize(16, 16))
        self._name = name
        self._tint()
        theme().changed.connect(self._tint)

    def set_icon(self, name: str) -> None:
        self._name = name
        self._tint()

    def _tint(self) -> None:
        self.setIcon(icon(self._name))
        self.update()


def primary(text: str, parent: QWidget | None = None) -> QPushButton:
    """The one button that goes forward, filled with the student's colour."""
    return with_role(QPushButton(text, parent), "primary")


def in_lines(text: str) -> str:
    """`text` with lines that are too long for a tooltip broken: Qt breaks those of rich text only."""
    return "\n".join(textwrap.fill(line, TOOLTIP) for line in text.splitlines())


def with_role(
    button: QPushButton, role: Literal["primary", "quiet", "danger", "icon", "pill"]
) -> QPushButton:
    """Give a button one of the style sheet's looks."""
    button.setProperty("role", role)
    restyle(button)
    return button

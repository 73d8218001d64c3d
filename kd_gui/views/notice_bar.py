"""What is posted, above the curves: a stripe in the colour of its meaning, words, what can
be done."""

from __future__ import annotations

from math import ceil

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from kd_gui.state.notices import Notices, Post
from kd_gui.theme import font, theme
from kd_gui.theme.widgets import GAP, SPACE, IconButton, with_role


class NoticeCard(QFrame):
    """One post: words, a quieter hint, buttons beside them or, where that is too narrow, below."""

    def __init__(self, notices: Notices, post: Post, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "card")
        self.post = post
        self.setAccessibleName(post.text)
        self.buttons = [self._button(notices, post, i) for i in range(len(post.offers))]
        self._close = IconButton("close", self.tr("Dismiss"), self)
        self._close.clicked.connect(lambda: notices.withdraw(post.key))
        self._wide: bool | None = None
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(20, 6, 8, 7)
        self._grid.setHorizontalSpacing(GAP)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(0, 1)
        words = QVBoxLayout()
        words.setSpacing(2)
        self.text = self._label(post.text)
        words.addWidget(self.text)
        if post.hint:
            words.addWidget(self._label(post.hint, "muted"))
        self._grid.addLayout(words, 0, 0)
        self._row = QHBoxLayout()
        self._row.setSpacing(GAP)
        for button in self.buttons:
            self._row.addWidget(button)
        self._grid.addWidget(self._close, 0, 2, Qt.AlignmentFlag.AlignTop)
        self._arrange(wide=True)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        theme().changed.connect(self.update)

    def _arrange(self, *, wide: bool) -> None:
        if wide == self._wide or not self.buttons:
            return
        self._wide = wide
        self._grid.removeItem(self._row)
        if wide:
            self._grid.addLayout(self._row, 0, 1)
        else:
            self._grid.addLayout(self._row, 1, 0, 1, 3, Qt.AlignmentFlag.AlignLeft)

    def _fits_beside(self, width: int) -> bool:
        """Whether words and hint take at most two lines with the buttons beside them."""
        buttons = sum(button.sizeHint().width() + GAP for button in self.buttons)
        room = width - buttons - self._close.sizeHint().width() - 28 - 2 * GAP
        measure = self.text.fontMetrics().horizontalAdvance
        lines = [ceil(1.08 * measure(text) / max(room, 1)) for text in (self.post.text, self.post.hint)]
        return room > 0 and sum(lines) <= 2

    def _label(self, text: str, tone: str = "") -> QLabel:
        label = QLabel(text, self, wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        label.setFont(font("text"))
        label.setProperty("tone", tone)
        return label

    def _button(self, notices: Notices, post: Post, index: int) -> QPushButton:
        offer = post.offers[index]
        button = QPushButton(offer.label, self)
        if index == 0 and post.level == "good":
            with_role(button, "primary")
        button.clicked.connect(lambda: notices.take(post, offer))
        return button

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange(wide=self._fits_beside(event.size().width()))

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        tokens = theme().tokens
        colors = {"info": tokens.teacher, "good": tokens.good, "warning": tokens.warn, "error": tokens.bad}
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colors[self.post.level]))
        painter.drawRoundedRect(QRectF(6, 9, 3, self.height() - 18), 1.5, 1.5)
        painter.end()


class NoticeBar(QWidget):
    """Follows `Notices`; takes no room while nothing is posted."""

    def __init__(self, notices: Notices, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._notices = notices
        self.cards: list[NoticeCard] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, SPACE)
        self._column.setSpacing(GAP)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        notices.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        posts = self._notices.posts
        kept = {id(card.post): card for card in self.cards}
        for card in self.cards:
            if not any(card.post is post for post in posts):
                self._column.removeWidget(card)
                card.hide()
                card.deleteLater()
        self.cards = [kept.get(id(post)) or NoticeCard(self._notices, post, self) for post in posts]
        for i, card in enumerate(self.cards):
            self._column.insertWidget(i, card)
        self.setVisible(bool(posts))

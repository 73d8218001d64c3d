"""What is posted, between the top bar and the panels: a stripe in the colour of its meaning, words, what can
be done."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from kd_gui.state.notices import Notices, Post
from kd_gui.theme import font, theme
from kd_gui.theme.widgets import GAP, SPACE, IconButton, with_role


class NoticeCard(QFrame):
    """One post."""

    def __init__(self, notices: Notices, post: Post, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "card")
        self.post = post
        self.setAccessibleName(post.text)
        self.text = QLabel(post.text, self, wordWrap=True)
        self.text.setFont(font("text"))
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        row = QHBoxLayout(self)
        row.setContentsMargins(18, 5, 8, 5)
        row.setSpacing(GAP)
        row.addWidget(self.text, 0 if post.hint else 1)
        if post.hint:
            hint = QLabel(post.hint, self, wordWrap=True)
            hint.setProperty("tone", "muted")
            hint.setTextFormat(Qt.TextFormat.PlainText)
            row.addWidget(hint, 1)
        self.buttons = [self._button(notices, post, i) for i in range(len(post.offers))]
        for button in self.buttons:
            row.addWidget(button)
        close = IconButton("close", self.tr("Dismiss"), self)
        close.clicked.connect(lambda: notices.withdraw(post.key))
        row.addWidget(close)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        theme().changed.connect(self.update)

    def _button(self, notices: Notices, post: Post, index: int) -> QPushButton:
        offer = post.offers[index]
        button = QPushButton(offer.label, self)
        button.setFixedHeight(30)
        if index == 0 and post.level == "good":
            with_role(button, "primary")
        button.clicked.connect(lambda: notices.take(post, offer))
        return button

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
        self._column.setContentsMargins(SPACE, SPACE, SPACE, 0)
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

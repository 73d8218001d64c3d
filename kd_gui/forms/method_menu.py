"""Choose one of many methods: by family, with a line to search in, and what is known of each below."""

from __future__ import annotations

from PySide6.QtCore import (
    QEvent,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import (
    QColor,
    QGuiApplication,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QStandardItem,
    QStandardItemModel,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QLineEdit,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from kd_gui.state.draft import Draft
from kd_gui.state.methods import Family, Offer, cited, families
from kd_gui.theme import font, icon, theme, title_font
from kd_gui.theme.widgets import GAP, SPACE, Caption, Rule, Text

WHAT = Qt.ItemDataRole.UserRole  # a Family (a heading) or an Offer
HEADING, ROW = 34, 44  # pixels
SIZE = QSize(500, 560)


class MethodMenu(QDialog):
    """A pop-up with every method. `chosen(name)`: the user picked one, and the pop-up is closed."""

    chosen = Signal(str)

    def __init__(self, draft: Draft, stage: str, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setAccessibleName(self.tr("Add a method"))
        self.families = families(draft, stage)
        self.find = QLineEdit(placeholderText=self.tr("Find a method, a paper, a year"))
        self.find.setAccessibleName(self.find.placeholderText())
        self.find.textChanged.connect(self.sieve)
        self.find.installEventFilter(self)
        self.list = _Offers(self)
        self.about = About()
        self.nothing = Caption(self.tr("No method is about that."))
        self.nothing.hide()
        self._fill()
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE, SPACE, SPACE, SPACE)
        column.setSpacing(GAP)
        for part in (self.find, self.nothing, self.list, Rule(), self.about):
            column.addWidget(part)
        column.setStretchFactor(self.list, 1)
        self.resize(SIZE)
        self.list.selectionModel().currentChanged.connect(self._tell)
        self.list.clicked.connect(self._pick)
        self.step(1)

    def offers(self) -> list[Offer]:
        """The methods that the search leaves, in order."""
        return [what for row in self._shown() if isinstance(what := self._what(row), Offer)]

    def current(self) -> Offer | None:
        what = self.list.currentIndex().data(WHAT)
        return what if isinstance(what, Offer) else None

    def sieve(self, text: str) -> None:
        """Leave what `text` is about, and the headings above it."""
        heading, left = 0, 0
        for row in range(self._model.rowCount()):
            what = self._what(row)
            if isinstance(what, Family):
                heading = row
                self.list.setRowHidden(row, True)
            else:
                fits = what.is_about(text)
                left += fits
                self.list.setRowHidden(row, not fits)
                if fits:
                    self.list.setRowHidden(heading, False)
        self.nothing.setVisible(not left)
        self.list.setCurrentIndex(QModelIndex())
        self.list.scrollToTop()
        self.step(1)

    def step(self, by: int) -> None:
        """The method below (1) or above (-1) the current one."""
        rows = [row for row in self._shown() if isinstance(self._what(row), Offer)]
        if not rows:
            self.about.tell(None)
            return
        here = self.list.currentIndex().row()
        beyond = [row for row in rows if (row > here if by > 0 else row < here)]
        wanted = (beyond or [here])[0 if by > 0 else -1]
        self.list.setCurrentIndex(self._model.index(wanted, 0))

    def pick(self) -> None:
        """Take the current method, unless it is there already or unavailable."""
        offer = self.current()
        if offer is None or offer.used or offer.entry.unavailable:
            return
        self.close()
        self.chosen.emit(offer.entry.name)

    def open_beside(self, widget: QWidget) -> None:
        """Show it to the right of `widget`, as far as the screen has room."""
        corner = widget.mapToGlobal(QPoint(widget.width() + SPACE, -SIZE.height() // 3))
        room = (widget.screen() or QGuiApplication.primaryScreen()).availableGeometry()
        corner.setX(max(room.left(), min(corner.x(), room.right() - self.width())))
        corner.setY(max(room.top(), min(corner.y(), room.bottom() - self.height())))
        self.move(corner)
        self.show()
        self.find.setFocus()

    def _fill(self) -> None:
        self._model = QStandardItemModel(self)
        for family in self.families:
            self._add(family, family.title).setFlags(Qt.ItemFlag.NoItemFlags)
            for offer in family.offers:
                told = (offer.entry.title, offer.entry.help, offer.refusal)
                self._add(offer, ". ".join(part for part in told if part))
        self.list.setModel(self._model)

    def _add(self, what: Family | Offer, words: str) -> QStandardItem:
        item = QStandardItem()
        item.setData(what, WHAT)
        item.setData(words, Qt.ItemDataRole.AccessibleTextRole)
        self._model.appendRow(item)
        return item

    def _shown(self) -> list[int]:
        return [row for row in range(self._model.rowCount()) if not self.list.isRowHidden(row)]

    def _what(self, row: int) -> Family | Offer:
        what: Family | Offer = self._model.item(row).data(WHAT)
        return what

    def _tell(self, _index: QModelIndex) -> None:
        self.about.tell(self.current())

    def _pick(self, index: QModelIndex) -> None:
        self.list.setCurrentIndex(index)
        self.pick()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if not (isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress):
            return super().eventFilter(watched, event)
        if event.key() in (Qt.Key.Key_Down, Qt.Key.Key_Up):
            self.step(1 if event.key() == Qt.Key.Key_Down else -1)
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.pick()
        else:
            return super().eventFilter(watched, event)
        return True


class About(QWidget):
    """What is known of one method: what it does, its paper, what to beware of, why it cannot work here."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title, self.help = Text(), Caption(tone="")
        self.source, self.caution = Caption(), Caption(tone="warn")
        self.refusal, self.first = Caption(tone="bad"), Caption(tone="good")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for label in (self.title, self.help, self.refusal, self.caution, self.first, self.source):
            label.setWordWrap(True)
            column.addWidget(label)
        column.addStretch(1)
        self.setMinimumHeight(132)

    def tell(self, offer: Offer | None) -> None:
        entry = offer.entry if offer else None
        self.title.setText(entry.title if entry else "")
        self.help.setText(entry.help if entry else "")
        self.source.setText(entry.source.split("; reading of ")[0] if entry else "")
        self.caution.setText(entry.caution if entry else "")
        self.refusal.setText(_refusal(offer) if offer else "")
        brings = self.tr("Published with a stage of its own before the labels: that one is added, too.")
        self.first.setText(brings if offer and offer.brings_a_stage else "")
        for label in (self.help, self.source, self.caution, self.refusal, self.first):
            label.setVisible(bool(label.text()))


class _Offers(QListView):
    """The list. The pointer chooses by moving, not by lying where the list scrolls: the arrow keys scroll
    it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pointer: QPoint | None = None
        self.setItemDelegate(_Painter(self))
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keys are the search line's
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMouseTracking(True)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        here = event.globalPosition().toPoint()
        moved = self._pointer is not None and here != self._pointer
        self._pointer = here
        index = self.indexAt(event.position().toPoint())
        if moved and isinstance(index.data(WHAT), Offer):
            self.setCurrentIndex(index)


class _Painter(QStyledItemDelegate):
    """Headings in small capitals; methods with a second line, and their paper at the right."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(100, HEADING if isinstance(index.data(WHAT), Family) else ROW)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        what = index.data(WHAT)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if isinstance(what, Family):
            self._heading(painter, option.rect.adjusted(8, 10, -8, 0), what)
        else:
            if option.state & QStyle.StateFlag.State_Selected:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(QColor(theme().tokens.field))
                painter.drawRoundedRect(option.rect.adjusted(0, 1, -2, -1), 6, 6)
            self._offer(painter, option.rect.adjusted(8, 5, -10, -5), what)
        painter.restore()

    def _heading(self, painter: QPainter, room: QRect, family: Family) -> None:
        tokens = theme().tokens
        painter.setFont(title_font())
        painter.setPen(QColor(tokens.muted))
        title = family.title or self.tr("others")
        painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter), title)
        rest = room.adjusted(painter.fontMetrics().horizontalAdvance(title.upper()) + 12, 0, 0, 0)
        _line(painter, rest, family.help, tokens.faint)

    def _offer(self, painter: QPainter, room: QRect, offer: Offer) -> None:
        tokens, entry = theme().tokens, offer.entry
        away = bool(offer.refusal or entry.unavailable)
        half = room.height() // 2
        top, below = room.adjusted(0, 0, 0, -half), room.adjusted(0, half + 1, 0, 0)
        right = self.tr("in use") if offer.used else cited(entry.source)
        _line(painter, top, right, tokens.student if offer.used else tokens.faint, right=True)
        if entry.caution and not offer.used:
            width = painter.fontMetrics().horizontalAdvance(right)
            icon("warning", tokens.warn, 14).paint(
                painter, room.right() - width - 22, top.top(), 14, top.height()
            )
        painter.setFont(font("text"))
        painter.setPen(QColor(tokens.faint if away or offer.used else tokens.text))
        painter.drawText(top, int(Qt.AlignmentFlag.AlignVCenter), entry.title)
        said = _refusal(offer) or entry.help
        _line(painter, below, said, tokens.bad if away else tokens.faint if offer.used else tokens.muted)


def _refusal(offer: Offer) -> str:
    return offer.entry.unavailable or offer.refusal


def _line(painter: QPainter, room: QRect, text: str, color: str, *, right: bool = False) -> None:
    """One line of small print, cut where it does not fit."""
    painter.setFont(font("caption"))
    painter.setPen(QColor(color))
    shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, room.width())
    side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
    painter.drawText(room, int(side | Qt.AlignmentFlag.AlignVCenter), shown)

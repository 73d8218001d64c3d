"""What is kept of teachers' answers: whose, how much, when last used; and a button that clears it."""

from __future__ import annotations

import time
from itertools import groupby

from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtWidgets import (
    QDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from kd_gui.state.run_figures import size
from kd_gui.state.teacher_cache import Answers, TeacherCache
from kd_gui.theme import font
from kd_gui.theme.widgets import GAP, Caption, Elided, Text, set_tone, with_role

HEIGHT = 220  # of the list; more scrolls


class CacheDialog(QDialog):
    """Looks when it opens. Teachers stand once, with all that is kept of them."""

    def __init__(self, cache: TeacherCache, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(self.tr("Teacher cache"))
        self.setModal(True)
        self.setFixedWidth(520)
        self._cache = cache
        heading = QLabel(self.tr("Teachers' answers that are kept"), self)
        heading.setFont(font("text", bold=True))
        why = Text(
            self.tr(
                "A teacher says the same of the same picture: what it said is kept, and the next run with it "
                "is faster. Clearing costs nothing but that time."
            ),
            "muted",
            self,
        )
        why.setWordWrap(True)
        self.list = QWidget()
        self.list.setProperty("role", "pane")
        self._grid = QGridLayout(self.list)
        self._grid.setContentsMargins(0, 0, 8, 0)
        self._grid.setHorizontalSpacing(16)
        self._grid.setVerticalSpacing(6)
        scroll = QScrollArea(widgetResizable=True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(self.list)
        scroll.setMinimumHeight(HEIGHT)
        self.total, self.place = Text("", parent=self), Elided("", "muted", self)
        self.place.setFont(font("caption"))
        self.clear = QPushButton(self.tr("Clear"), self)
        with_role(self.clear, "danger")
        self.clear.clicked.connect(lambda _checked=False: cache.clear())
        self.close_ = QPushButton(self.tr("Close"), self)
        self.close_.clicked.connect(self.reject)
        self.close_.setDefault(True)
        row = QHBoxLayout()
        row.setSpacing(GAP)
        row.addWidget(self.total)
        row.addStretch(1)
        row.addWidget(self.clear)
        row.addWidget(self.close_)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 18, 20, 18)
        column.setSpacing(12)
        for widget in (heading, why, scroll, self.place):
            column.addWidget(widget, int(widget is scroll))
        column.addLayout(row)
        cache.changed.connect(self.refresh)
        cache.look()
        self.refresh()

    def refresh(self) -> None:
        cache = self._cache
        self.clear.setEnabled(bool(cache.answers) and not cache.busy)
        self.place.setText("" if cache.root is None else str(cache.root))
        set_tone(self.total, "bad" if cache.trouble else "")
        if cache.trouble:
            self.total.setText(cache.trouble)
        elif cache.answers is None or cache.busy:
            self.total.setText(self.tr("Looking…"))
        else:
            said = self.tr("{size} in all").format(size=size(cache.bytes))
            if cache.freed is not None:
                said = self.tr("{freed} freed, {size} kept").format(
                    freed=size(cache.freed), size=size(cache.bytes)
                )
            self.total.setText(said)
            self._fill(cache.answers)

    def _fill(self, answers: list[Answers]) -> None:
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        if not answers:
            self._grid.addWidget(Text(self.tr("Nothing is kept."), "muted"), 0, 0)
        by_teacher = sorted(answers, key=_whose)
        groups = [list(group) for _, group in groupby(by_teacher, key=_whose)]
        groups.sort(key=lambda group: -max(one.used for one in group))
        for line, group in enumerate(groups):
            self._line(line, group)
        self._grid.setColumnStretch(0, 1)
        self._grid.setRowStretch(len(groups) + 1, 1)

    def _line(self, line: int, group: list[Answers]) -> None:
        first = group[0]
        whose = f"{first.teacher} · {first.weights}" if first.weights else first.teacher
        used = max(one.used for one in group)
        when = self.tr("in use") if any(one.busy for one in group) else _ago(time.time() - used)
        self._grid.addWidget(Elided(whose), line, 0)
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        self._grid.addWidget(Caption(self._images(group)), line, 1, right)
        self._grid.addWidget(Text(size(sum(one.bytes for one in group))), line, 2, right)
        self._grid.addWidget(Caption(when), line, 3, right)

    def _images(self, group: list[Answers]) -> str:
        if len(group) == 1 and group[0].samples is not None:
            return self.tr("{count} images").format(count=f"{group[0].samples:,}")
        return self.tr("{count} sets of images").format(count=len(group))


def _whose(one: Answers) -> tuple[str, str]:
    return one.teacher, one.weights


def _ago(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 1:
        return QCoreApplication.translate("cache", "just now")
    if minutes < 60:
        return QCoreApplication.translate("cache", "{count} min ago").format(count=minutes)
    if minutes < 48 * 60:
        return QCoreApplication.translate("cache", "{count} h ago").format(count=minutes // 60)
    return QCoreApplication.translate("cache", "{count} days ago").format(count=minutes // (24 * 60))

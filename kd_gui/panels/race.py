"""The race: the student beside its rivals, and how much of the teacher it keeps; honest when it loses."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from kd_engine.events import STUDENT
from kd_gui.panels import names
from kd_gui.panels.empty import Empty, Filled
from kd_gui.plots.race_bars import Bar, RaceBars
from kd_gui.state.feed import Feed
from kd_gui.state.race import Standing, standing
from kd_gui.theme import series_style, theme
from kd_gui.theme.widgets import GAP, Caption, Card, Figure, IconButton, Title, Tone, set_tone

RETENTION_WIDTH = 130
EVEN = 0.0005  # a gain that would be written as 0.0


class RacePanel(Card):
    """Bars of one feed's students and the retention figure. `start_asked()`: the empty panel's button.
    `evaluation_asked()`: a closer look is wanted."""

    start_asked = Signal()
    evaluation_asked = Signal()

    def __init__(self, feed: Feed, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._feed = feed
        self._fresh = False
        self.bars = RaceBars()
        self.where = Caption()
        self.figure, self.of_teacher, self.gain = Figure(), Caption(), Caption()
        for words in (self.of_teacher, self.gain):
            words.setWordWrap(True)
        empty = Empty(
            self.tr("The distilled student runs here beside the same student without distillation."),
            self.tr("Distill"),
        )
        empty.asked.connect(self.start_asked)
        self.content = Filled(empty, self._lay_out())
        self.body.addWidget(self.content)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        feed.epochs_changed.connect(self._on_change)
        feed.run_changed.connect(self._on_run)
        theme().changed.connect(self._on_change)
        self.refresh()

    def _lay_out(self) -> QWidget:
        head = QHBoxLayout()
        head.addWidget(Title(self.tr("Race")))
        head.addStretch(1)
        head.addWidget(self.where)
        left = QVBoxLayout()
        left.setSpacing(GAP)
        left.addLayout(head)
        left.addWidget(self.bars)
        left.addStretch(1)
        right = QVBoxLayout()
        right.setSpacing(2)
        self.more = IconButton("matrix", self.tr("Evaluation: confusion, classes, calibration"))
        self.more.clicked.connect(lambda _checked=False: self.evaluation_asked.emit())
        right.addWidget(Title(self.tr("Retention")))
        right.addSpacing(2)
        top = QHBoxLayout()
        top.setSpacing(0)
        top.addWidget(self.figure)
        top.addStretch(1)
        top.addWidget(self.more)
        right.addLayout(top)
        right.addWidget(self.of_teacher)
        right.addWidget(self.gain)
        right.addStretch(1)
        side = QWidget()
        side.setLayout(right)
        right.setContentsMargins(0, 0, 0, 0)
        side.setFixedWidth(RETENTION_WIDTH)
        both = QWidget()
        row = QHBoxLayout(both)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(20)
        row.addLayout(left, 1)
        row.addWidget(side, 0, Qt.AlignmentFlag.AlignTop)
        return both

    def refresh(self) -> None:
        """Show how the race stands."""
        stand = standing(self._feed)
        self._on_run()
        bars = [Bar(names.student_title(self._feed, n), v, _color(stand, n)) for n, v in stand.rows]
        self.bars.show_bars(bars, stand.teacher)
        self.where.setText(self._where(stand))
        self._show_retention(stand)
        self._fresh = True

    def _show_retention(self, stand: Standing) -> None:
        if stand.retention is None:
            self.figure.setText("–")
            set_tone(self.figure, "faint")
            self.of_teacher.setText(self._why_none(stand))
            set_tone(self.of_teacher, "muted")
        else:
            self.figure.setText(f"{100 * stand.retention:.1f} %")
            set_tone(self.figure, "")
            self.of_teacher.setText(
                self.tr("of the teacher's {top1}").format(top1=f"{100 * (stand.teacher or 0):.1f}")
            )
            set_tone(self.of_teacher, "teacher")  # as its mark on the bars
        self.gain.setVisible(stand.gain is not None)
        if stand.gain is not None:
            words, tone = self._gain(stand.gain, stand.rival or "")
            self.gain.setText(words)
            set_tone(self.gain, tone)

    def _gain(self, gain: float, rival: str) -> tuple[str, Tone]:
        """The gain in points and its colour: a loss is told as a loss."""
        if abs(gain) < EVEN:
            return self.tr("level with {rival}").format(rival=rival), "muted"
        points = f"{100 * abs(gain):.1f}"
        if gain > 0:
            return self.tr("+{points} over {rival}").format(points=points, rival=rival), "good"
        return self.tr("−{points} behind {rival}").format(points=points, rival=rival), "bad"

    def _why_none(self, stand: Standing) -> str:
        if self._feed.stage is not None and self._feed.teacher is None:
            return self.tr("no teacher in this run")
        if dict(stand.rows).get(STUDENT) is None and self._feed.live:
            return self.tr("after the first epoch")
        return self.tr("not measured")

    def _where(self, stand: Standing) -> str:
        """Where the numbers come from: they are never mixed."""
        if stand.part == "test":
            return self.tr("on the test part, last weights")
        last = self._feed.last(STUDENT)
        if last is None:
            return self.tr("same seed, same batches") if len(stand.rows) > 1 else ""
        return self.tr("on validation, epoch {epoch}").format(epoch=f"{last.x:g}")

    def _on_change(self) -> None:
        if self.isVisible():
            self.refresh()
        else:
            self._fresh = False

    def _on_run(self) -> None:
        self.content.set_filled(not self._feed.empty)
        self.set_title(self.tr("Race") if self._feed.empty else "")  # the content has its own two titles

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._fresh:
            self.refresh()


def _color(stand: Standing, name: str) -> str:
    rivals = [other for other, _ in stand.rows if other != STUDENT]
    return series_style(name, rivals.index(name) if name in rivals else 0)[0]


def demo() -> QWidget:
    """The race of a finished run."""
    from kd_gui.state import rehearsal

    feed = Feed()
    panel = RacePanel(feed)
    feed.setParent(panel)
    feed.take(rehearsal.events())
    panel.resize(568, 111)
    return panel


if __name__ == "__main__":
    from kd_gui.app import show_alone

    show_alone(demo)

"""How well the student does on held-out pictures, epoch by epoch, beside its rivals and the teacher."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QWidget

from kd_engine.events import STUDENT
from kd_gui.panels import names
from kd_gui.panels.empty import Empty, Filled, keep_room
from kd_gui.plots import ticks
from kd_gui.plots.curve_plot import CurvePlot
from kd_gui.plots.decimate import Floats
from kd_gui.plots.fit import Scale
from kd_gui.plots.overlay import Level, Spot
from kd_gui.plots.series import Series
from kd_gui.state.feed import Feed
from kd_gui.theme import theme
from kd_gui.theme.widgets import Card, Segmented

ACCURACY, AGREEMENT, KL, LR = "accuracy", "agreement", "kl", "lr"
METRICS = {ACCURACY: "top1", AGREEMENT: "agreement", KL: "kl"}
PERCENT = Scale(low=0.0, high=100.0)
SCALES = {ACCURACY: PERCENT, AGREEMENT: PERCENT, KL: Scale(from_zero=True), LR: Scale(from_zero=True)}


class AccuracyPanel(Card):
    """Validation accuracy of one feed, or agreement with the teacher, KL to it, the learning rate."""

    start_asked = Signal()
    pointed = Signal(object)

    def __init__(self, feed: Feed, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._feed = feed
        self._fresh = False
        self._titles = {
            ACCURACY: self.tr("Validation accuracy"),
            AGREEMENT: self.tr("Agreement with the teacher"),
            KL: self.tr("KL to the teacher"),
            LR: self.tr("Learning rate"),
        }
        self.what = Segmented(
            {
                ACCURACY: self.tr("accuracy"),
                AGREEMENT: self.tr("agreement"),
                KL: self.tr("KL"),
                LR: self.tr("lr"),
            }
        )
        self.what.button(AGREEMENT).setToolTip(self.tr("How often student and teacher give the same answer."))
        self.what.button(KL).setToolTip(
            self.tr("How far the student's probabilities are from the teacher's: 0 when they are the same.")
        )
        self.header.addWidget(self.what)
        keep_room(self.what)
        self.plot = CurvePlot()
        empty = Empty(
            self.tr("How often the student is right on held-out pictures appears here, beside the teacher."),
            self.tr("Distill"),
        )
        self.content = Filled(empty, self.plot)
        self.body.addWidget(self.content)
        empty.asked.connect(self.start_asked)
        self.what.chosen.connect(self.refresh)
        self.plot.pointed.connect(self.pointed)
        feed.curves_changed.connect(self._on_curves)
        feed.epochs_changed.connect(self._on_epochs)
        feed.run_changed.connect(self._on_run)
        theme().changed.connect(self._on_epochs)
        self.refresh()

    def show_metric(self, key: str) -> None:
        """ACCURACY, AGREEMENT, KL or LR."""
        self.what.set_current(key)
        self.refresh()

    def point_at(self, x: object) -> None:
        """The crosshair of a plot beside this one stands at x."""
        self.plot.point_at(x, values=False)  # type: ignore[arg-type]

    def refresh(self) -> None:
        """Draw what the feed says; while hidden, when it is shown again."""
        what = self.what.current()
        self._on_run()
        self.set_title(self._titles[what])
        self.plot.set_scale(SCALES[what])
        self.plot.set_value(_one_decimal if SCALES[what] is PERCENT else ticks.short)
        self.plot.set_markers([(marker.x, marker.text) for marker in self._feed.markers], labels=False)
        drawn = self._draw_lr() if what == LR else self._draw_epochs(what)
        self.plot.set_levels(self._levels() if what == ACCURACY else [])
        self.plot.set_spots(self._spots() if what == ACCURACY else [])
        self.plot.keep([series.key for series in drawn])
        self.plot.redraw()
        self._fresh = True

    def _draw_lr(self) -> list[Series]:
        student = self._feed.curves.get(STUDENT)
        if student is None or not len(student.lr):
            return []
        series = names.rate_series()
        stamp = (student.lr.version, student.lr.size)
        self.plot.show_series(series, student.lr.x, student.lr.y, None, stamp)
        return [series]

    def _draw_epochs(self, what: str) -> list[Series]:
        drawn = []
        scale = 100.0 if SCALES[what] is PERCENT else 1.0
        for name in self._feed.students:
            x, y = self._feed.metric(name, "validation", METRICS[what])
            if x.size:
                drawn.append(self._draw(names.student_series(self._feed, name), what, x, y * scale))
        x, y = self._feed.metric(STUDENT, "train", METRICS[what])
        if what == ACCURACY and x.size:
            drawn.append(self._draw(names.train_series(), what, x, y * scale))
        return drawn

    def _draw(self, series: Series, what: str, x: Floats, y: Floats) -> Series:
        self.plot.show_series(series, x, y, None, (what, x.tobytes(), y.tobytes()))
        return series

    def _levels(self) -> list[Level]:
        teacher = self._feed.teacher
        if teacher is None or teacher.top1 is None:
            return []
        percent = 100 * teacher.top1
        words = self.tr("teacher {top1}").format(top1=f"{percent:.1f}")
        return [Level(percent, words, theme().tokens.teacher)]

    def _spots(self) -> list[Spot]:
        best = self._feed.best(STUDENT)
        top1 = best.validation.get("top1") if best is not None else None
        if best is None or top1 is None or self._feed.live:
            return []
        words = self.tr("best {top1}").format(top1=f"{100 * top1:.1f}")
        return [Spot(best.x, 100 * top1, words, theme().tokens.student)]

    def _on_curves(self) -> None:
        if self.what.current() == LR:
            self._on_epochs()
        elif self.isVisible():
            self.plot.set_markers([(marker.x, marker.text) for marker in self._feed.markers], labels=False)

    def _on_epochs(self) -> None:
        if self.isVisible():
            self.refresh()
        else:
            self._fresh = False

    def _on_run(self) -> None:
        feed = self._feed
        self.content.set_filled(not feed.empty)
        self.what.setVisible(not feed.empty)
        epochs = feed.total_epochs
        self.plot.set_span(
            float(epochs or max(feed.step, 1)), self.tr("epoch") if epochs else self.tr("step")
        )
        waiting = feed.live and self.what.current() != LR and not any(feed.epochs.values())
        self.plot.set_message(self.tr("after the first epoch") if waiting else "")

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._fresh:
            self.refresh()


def _one_decimal(value: float) -> str:
    return f"{value:.1f}"


def demo() -> QWidget:
    """A run two thirds through."""
    from kd_gui.state import rehearsal

    feed = Feed()
    panel = AccuracyPanel(feed)
    feed.setParent(panel)
    feed.take(rehearsal.events(until=9.3))
    panel.resize(568, 200)
    return panel


if __name__ == "__main__":
    from kd_gui.app import show_alone

    show_alone(demo)

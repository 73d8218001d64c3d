"""The loss, term by term: what the student is asked to learn, and how far it has come."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QMenu, QSlider, QVBoxLayout, QWidget, QWidgetAction

from kd_engine.events import STUDENT
from kd_gui.panels import names
from kd_gui.panels.empty import Empty, Filled, keep_room
from kd_gui.plots.curve_plot import CurvePlot
from kd_gui.plots.fit import Scale
from kd_gui.plots.series import Series
from kd_gui.state.curves import Curve, Smoother
from kd_gui.state.feed import Feed
from kd_gui.theme.widgets import GAP, Caption, Card, PillButton, Segmented

SMOOTH = 0.8


class LossPanel(Card):
    """The loss curves of one feed. `start_asked()`: the empty panel's button. `pointed(x)`: see CurvePlot."""

    start_asked = Signal()
    pointed = Signal(object)

    def __init__(self, feed: Feed, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.set_title(self.tr("Loss"))
        self._feed = feed
        self._smoothers: dict[str, Smoother] = {}
        self._fresh = False  # whether what is on the screen is what the feed says
        self.weighting = Segmented({"weighted": self.tr("weighted"), "raw": self.tr("raw")})
        self.weighting.setToolTip(self.tr("Weighted: as they stand in the sum. Raw: before their weights."))
        self.axis = Segmented({"linear": self.tr("linear"), "log": self.tr("log")})
        self.smoothing = Smoothing(SMOOTH)
        for control in (self.weighting, self.axis, self.smoothing):
            self.header.addWidget(control)
            keep_room(control)
        self.plot = CurvePlot()
        empty = Empty(
            self.tr("How far the student is from what it should say appears here, term by term."),
            self.tr("Distill"),
        )
        self.content = Filled(empty, self.plot)
        self.body.addWidget(self.content)
        empty.asked.connect(self.start_asked)
        self.weighting.chosen.connect(self.refresh)
        self.axis.chosen.connect(self.refresh)
        self.smoothing.changed.connect(self.refresh)
        self.plot.pointed.connect(self.pointed)
        feed.curves_changed.connect(self._on_change)
        feed.run_changed.connect(self._on_run)
        self.refresh()

    def point_at(self, x: object) -> None:
        """The crosshair of a plot beside this one stands at x."""
        self.plot.point_at(x, values=False)  # type: ignore[arg-type]

    def refresh(self) -> None:
        """Draw what the feed says; while hidden, when it is shown again."""
        if not self.isVisible():
            self._fresh = False
        self._on_run()
        self.plot.set_scale(Scale(log=self.axis.current() == "log", from_zero=True))
        self.plot.set_skip(self.smoothing.skip)
        markers = self._feed.markers
        self.plot.set_markers([(marker.x, marker.text) for marker in markers])
        breaks = tuple(marker.x for marker in markers)
        curves = self._curves()
        for series, curve in curves:
            self._show(series, curve, breaks)
        self.plot.keep([series.key for series, _ in curves])
        self.plot.redraw()
        self._fresh = True

    def _on_change(self) -> None:
        if self.isVisible():
            self.refresh()
        else:
            self._fresh = False

    def _on_run(self) -> None:
        feed = self._feed
        self.content.set_filled(not feed.empty)
        for control in (self.weighting, self.axis, self.smoothing):
            control.setVisible(not feed.empty)
        epochs = feed.total_epochs
        waiting = feed.status == "preparing" and not feed.curves
        self.plot.set_message(names.preparing_title(feed) if waiting else "")
        self.plot.set_span(
            float(epochs or max(feed.step, 1)), self.tr("epoch") if epochs else self.tr("step")
        )

    def _curves(self) -> list[tuple[Series, Curve]]:
        student = self._feed.curves.get(STUDENT)
        if student is None:
            return []
        weighted = self.weighting.current() == "weighted"
        terms = student.weighted if weighted else student.terms
        found = [
            (names.term_series(name, i), terms[name]) for i, name in enumerate(names.term_order(list(terms)))
        ]
        if weighted and len(terms) > 1:
            found.append((names.total_series(), student.loss))
        return found

    def _show(self, series: Series, curve: Curve, breaks: tuple[float, ...]) -> None:
        weight = self.smoothing.weight
        stamp = (id(curve), curve.version, curve.size, weight, breaks)
        if not weight or series.thin:
            self.plot.show_series(series, curve.x, curve.y, None, stamp)
            return
        smoother = self._smoothers.setdefault(f"{series.key}/{self.weighting.current()}", Smoother())
        self.plot.show_series(series, curve.x, smoother.follow(curve, weight, breaks), curve.y, stamp)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._fresh:
            self.refresh()


class Smoothing(PillButton):
    """How far curves are smoothed, and how much of the beginning the fit leaves out: a pill that opens."""

    changed = Signal()

    def __init__(self, weight: float, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._weight = QSlider(Qt.Orientation.Horizontal)
        self._weight.setRange(0, 99)
        self._weight.setValue(round(weight * 100))
        self._skip = QSlider(Qt.Orientation.Horizontal)
        self._skip.setRange(0, 50)
        self._weight_says, self._skip_says = Caption(), Caption()
        menu = QMenu(self)
        action = QWidgetAction(menu)
        action.setDefaultWidget(self._form(menu))
        menu.addAction(action)
        self.setMenu(menu)
        self._weight.valueChanged.connect(self._on_change)
        self._skip.valueChanged.connect(self._on_change)
        self._say()

    @property
    def weight(self) -> float:
        """0 to 0.99, the share of the past in each point."""
        return self._weight.value() / 100

    @property
    def skip(self) -> float:
        """The share of the beginning that does not count in the fit."""
        return self._skip.value() / 100

    def set_weight(self, weight: float) -> None:
        self._weight.setValue(round(weight * 100))

    def set_skip(self, share: float) -> None:
        self._skip.setValue(round(share * 100))

    def _form(self, parent: QWidget) -> QWidget:
        form = QWidget(parent)
        column = QVBoxLayout(form)
        column.setContentsMargins(12, 10, 12, 12)
        column.setSpacing(GAP)
        rows = (
            (self.tr("Smoothing"), self._weight, self._weight_says),
            (self.tr("Skip the beginning"), self._skip, self._skip_says),
        )
        for title, slider, says in rows:
            slider.setAccessibleName(title)
            slider.setMinimumWidth(180)
            head = QHBoxLayout()
            head.addWidget(Caption(title))
            head.addStretch(1)
            head.addWidget(says)
            column.addLayout(head)
            column.addWidget(slider)
        return form

    def _on_change(self) -> None:
        self._say()
        self.changed.emit()

    def _say(self) -> None:
        self.setText(self.tr("smooth {weight}").format(weight=f"{self.weight:.2g}"))
        self._weight_says.setText(f"{self.weight:.2f}")
        self._skip_says.setText(f"{self.skip:.0%}")


def demo() -> QWidget:
    """A run two thirds through."""
    from kd_gui.state import rehearsal

    feed = Feed()
    panel = LossPanel(feed)
    feed.setParent(panel)
    feed.take(rehearsal.events(until=9.3))
    panel.resize(568, 243)
    return panel


if __name__ == "__main__":
    from kd_gui.app import show_alone

    show_alone(demo)

"""The loss panel: terms by weight, smoothing that stops at a change, and no work while it cannot be seen."""

from __future__ import annotations

import numpy as np
import pytest

from kd_engine.events import STUDENT
from kd_gui.panels import loss
from kd_gui.panels.loss import LossPanel
from kd_gui.state import rehearsal
from kd_gui.state.feed import Feed
from kd_gui.theme import apply
from tests.gui.hosting import show_inside


@pytest.fixture
def feed(qapp):
    apply(qapp)
    return Feed()


@pytest.fixture
def panel(qtbot, feed):
    panel = LossPanel(feed)
    show_inside(qtbot, panel, 568, 243)
    return panel


def test_the_demo_shows_a_run(qtbot, feed):
    panel = loss.demo()
    show_inside(qtbot, panel, 568, 243)
    assert panel.content.filled
    assert panel.plot.line("kd").item.getData()[0].size > 50


def test_an_empty_panel_offers_the_button_that_fills_it(panel, qtbot):
    assert not panel.content.filled
    assert not panel.axis.isVisible()
    with qtbot.waitSignal(panel.start_asked):
        panel.content.empty.button.click()


def test_terms_come_in_a_fixed_order_and_the_sum_waits_to_be_asked_for(panel, feed):
    feed.take(rehearsal.events(until=2))
    assert panel.plot.series() == ["kd", "label", "at", "total"]
    assert not panel.plot.is_shown("total")


def test_weighted_and_raw_show_different_numbers_of_the_same_terms(panel, feed):
    feed.take(rehearsal.events(until=2))
    weighted = panel.plot.line("kd").raw.copy()
    panel.weighting.button("raw").click()
    np.testing.assert_allclose(panel.plot.line("kd").raw * 0.9, weighted)
    assert "total" not in panel.plot.series(), "a sum of unweighted terms is nobody's loss"


def test_smoothing_does_not_average_over_a_change(panel, feed):
    feed.take(rehearsal.events(until=9, steps_per_epoch=20))
    (marker,) = feed.markers
    line = panel.plot.line("kd")
    first = int(np.searchsorted(line.x, marker.x, side="right"))
    assert line.y[first] == pytest.approx(line.raw[first]), "the first value after it stands for itself"
    assert line.y[first - 1] != pytest.approx(line.raw[first - 1])


def test_without_smoothing_the_measured_line_is_the_line(panel, feed):
    feed.take(rehearsal.events(until=2))
    panel.smoothing.set_weight(0.0)
    line = panel.plot.line("kd")
    assert line.raw is None
    np.testing.assert_array_equal(line.y, feed.curves[STUDENT].weighted["kd"].y)


def test_new_reports_reach_the_screen(panel, feed):
    events = rehearsal.events(until=3, steps_per_epoch=10)
    feed.take(events[:40])
    before = panel.plot.line("kd").item.getData()[0].size
    feed.take(events[40:])
    x, _ = panel.plot.line("kd").item.getData()
    assert x.size > before
    assert x[-1] == feed.curves[STUDENT].loss.x[-1]


def test_a_hidden_panel_draws_nothing_until_it_is_seen_again(panel, feed, monkeypatch):
    feed.take(rehearsal.events(until=1))
    panel.host.hide()
    drawn = []
    monkeypatch.setattr(panel.plot, "redraw", lambda: drawn.append(1))
    feed.take([event for event in rehearsal.events(until=2) if getattr(event, "step", 0) > 60])
    assert drawn == []
    panel.host.show()
    assert drawn


def test_the_axis_spans_the_whole_plan(panel, feed):
    feed.take(rehearsal.events(until=1))
    assert (panel.plot.frame.x0, panel.plot.frame.x1) == (0, 15)


def test_log_and_back(panel, feed):
    feed.take(rehearsal.events(until=3))
    linear = panel.plot.frame
    panel.axis.button("log").click()
    assert panel.plot.frame.log
    panel.axis.button("linear").click()
    assert panel.plot.frame == linear


def test_skipping_the_beginning_fits_the_rest(panel, feed):
    feed.take(rehearsal.events())
    before = panel.plot.frame.y1
    panel.smoothing.set_skip(0.5)
    assert panel.plot.frame.y1 < before
    assert panel.plot.frame.x0 == 0


def test_another_run_replaces_the_first(panel, feed):
    feed.take(rehearsal.events())
    feed.clear()
    assert not panel.content.filled
    feed.take(rehearsal.events(until=1, steps_per_epoch=10, name="scenes"))
    assert panel.plot.line("kd").x.size == 10


def test_preparing_is_said_in_words(panel, feed):
    feed.take(rehearsal.events()[:2])
    assert panel.content.filled
    assert "teacher" in panel.plot.overlay.message
    feed.take(rehearsal.events(until=1))
    assert panel.plot.overlay.message == ""

"""The accuracy panel: students, rivals and the teacher on held-out pictures; agreement, KL, learning rate."""

from __future__ import annotations

import numpy as np
import pytest

from kd_engine import events as e
from kd_engine.events import STUDENT
from kd_gui.panels import accuracy
from kd_gui.panels.accuracy import AGREEMENT, KL, LR, AccuracyPanel
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
    panel = AccuracyPanel(feed)
    show_inside(qtbot, panel, 568, 220)
    return panel


def test_the_demo_shows_a_run(qtbot, feed):
    panel = accuracy.demo()
    show_inside(qtbot, panel, 568, 220)
    assert panel.plot.line(STUDENT).item.getData()[0].size == 9


def test_an_empty_panel_offers_the_button_that_fills_it(panel, qtbot):
    assert not panel.content.filled
    with qtbot.waitSignal(panel.start_asked):
        panel.content.empty.button.click()


def test_students_are_in_percent_and_training_waits_to_be_asked_for(panel, feed):
    feed.take(rehearsal.events(until=5, steps_per_epoch=5))
    assert panel.plot.series() == [STUDENT, "no KD", "train"]
    assert not panel.plot.is_shown("train")
    np.testing.assert_allclose(
        panel.plot.line(STUDENT).y, 100 * feed.metric(STUDENT, "validation", "top1")[1]
    )


def test_the_teacher_has_a_line_with_its_number(panel, feed):
    feed.take(rehearsal.events(until=5, steps_per_epoch=5))
    (level,) = panel.plot.overlay.levels
    assert (level.y, level.text) == (97.5, "teacher 97.5")
    panel.show_metric(AGREEMENT)
    assert panel.plot.overlay.levels == ()


def test_a_teacher_without_a_validation_part_has_no_line(panel, feed):
    feed.take([e.TeacherReady(model="resnet20", parameters=1, top1=None, top1_test=0.97)])
    feed.take(rehearsal.events(until=0, steps_per_epoch=5)[:1])
    panel.refresh()
    assert panel.plot.overlay.levels == ()


def test_the_best_epoch_is_marked_when_the_run_is_over(panel, feed):
    events = rehearsal.events(steps_per_epoch=5)
    feed.take(events[:-1])
    assert panel.plot.overlay.spots == ()
    feed.take(events[-1:])
    (spot,) = panel.plot.overlay.spots
    best = feed.best(STUDENT)
    assert (spot.x, spot.y) == (best.x, 100 * best.validation["top1"])


@pytest.mark.parametrize(("what", "metric", "scale"), [(AGREEMENT, "agreement", 100), (KL, "kl", 1)])
def test_other_numbers_are_one_click_away(panel, feed, what, metric, scale):
    feed.take(rehearsal.events(until=5, steps_per_epoch=5))
    before = panel.title.text()
    panel.what.button(what).click()
    _, y = feed.metric(STUDENT, "validation", metric)
    np.testing.assert_allclose(panel.plot.line(STUDENT).y, scale * y)
    assert panel.title.text() != before
    assert "train" not in panel.plot.series()


def test_the_learning_rate_follows_every_report(panel, feed):
    events = rehearsal.events(until=2, steps_per_epoch=10)
    feed.take(events[:30])
    panel.what.button(LR).click()
    assert panel.plot.series() == ["lr"]
    feed.take(events[30:])
    np.testing.assert_array_equal(panel.plot.line("lr").y, feed.curves[STUDENT].lr.y)
    assert panel.plot.line("lr").item.getData()[0][-1] == 2.0


def test_reports_between_epochs_draw_nothing(panel, feed, monkeypatch, qapp):
    events = rehearsal.events(until=2, steps_per_epoch=10)
    feed.take(events[:-3])
    qapp.processEvents()  # the legend has come, and the layout settles
    monkeypatch.setattr(panel.plot.line(STUDENT).item, "setData", None)
    feed.take([event for event in rehearsal.events(steps_per_epoch=10) if getattr(event, "step", 0) == 21])
    assert feed.step == 21


def test_before_the_first_epoch_the_panel_says_so(panel, feed):
    feed.take(rehearsal.events(until=0.5, steps_per_epoch=10))
    assert panel.plot.overlay.message
    feed.take(
        [event for event in rehearsal.events(until=1, steps_per_epoch=10) if getattr(event, "step", 0) > 5]
    )
    assert panel.plot.overlay.message == ""


def test_a_rival_that_is_missing_in_the_next_run_is_gone(panel, feed):
    feed.take(rehearsal.events(rivals=("no KD", "T = 1"), steps_per_epoch=5))
    assert "T = 1" in panel.plot.series()
    feed.clear()
    feed.take(rehearsal.events(rivals=("T = 1",), steps_per_epoch=5))
    assert panel.plot.series() == [STUDENT, "T = 1", "train"]

"""The race card: bars, retention, and words that are honest about where the numbers come from."""

from __future__ import annotations

import pytest

from kd_engine import events as e
from kd_engine.events import STUDENT
from kd_gui.panels import race
from kd_gui.panels.race import RacePanel
from kd_gui.plots.race_bars import NAMES, ROW, VALUES
from kd_gui.state import rehearsal
from kd_gui.state.feed import Feed
from kd_gui.theme import apply, theme
from tests.gui.hosting import show_inside


@pytest.fixture
def feed(qapp):
    apply(qapp)
    return Feed()


@pytest.fixture
def panel(qtbot, feed):
    panel = RacePanel(feed)
    show_inside(qtbot, panel, 568, 140)
    return panel


def measured(feed: Feed, **top1: float) -> None:
    named = {name.replace("_", " "): value for name, value in top1.items()}
    feed.take([e.Evaluated(student=n, weights="last", metrics={"top1": v}) for n, v in named.items()])


def test_the_demo_shows_a_finished_race(qtbot, feed):
    panel = race.demo()
    show_inside(qtbot, panel, 568, 140)
    assert panel.figure.text() == "98.4 %"


def test_an_empty_panel_offers_the_button_that_fills_it(panel, qtbot):
    assert not panel.content.filled
    with qtbot.waitSignal(panel.start_asked):
        panel.content.empty.button.click()


def test_before_the_first_epoch_there_is_no_figure(panel, feed):
    feed.take(rehearsal.events(until=0.5, steps_per_epoch=10))
    assert panel.figure.text() == "–"
    assert [bar.share for bar in panel.bars.bars] == [None, None]


def test_a_live_race_says_that_it_is_on_validation(panel, feed):
    feed.take(rehearsal.events(until=6, steps_per_epoch=5))
    assert panel.where.text() == "on validation, epoch 6"
    assert [bar.name for bar in panel.bars.bars] == ["distilled", "no KD"]
    assert panel.bars.mark == 0.975


def test_a_finished_race_is_on_test(panel, feed):
    feed.take(rehearsal.events(steps_per_epoch=5))
    assert "test" in panel.where.text()
    assert (panel.figure.text(), panel.gain.text()) == ("98.4 %", "+19.8 over no KD")
    assert panel.gain.property("tone") == "good"


def test_a_lost_race_is_told_as_lost(panel, feed):
    feed.take(rehearsal.events(until=6, steps_per_epoch=5))
    measured(feed, student=0.742, no_KD=0.801, teacher=0.972)
    assert panel.gain.text() == "−5.9 behind no KD"
    assert panel.gain.property("tone") == "bad"
    assert panel.figure.text() == "76.3 %"


def test_a_draw_is_neither_good_nor_bad(panel, feed):
    feed.take(rehearsal.events(until=6, steps_per_epoch=5))
    measured(feed, student=0.9, no_KD=0.9, teacher=1.0)
    assert (panel.gain.text(), panel.gain.property("tone")) == ("level with no KD", "muted")


def test_a_student_may_beat_its_teacher(panel, feed):
    feed.take(rehearsal.events(until=6, steps_per_epoch=5))
    measured(feed, student=0.99, no_KD=0.9, teacher=0.9)
    assert panel.figure.text() == "110.0 %"


def test_without_rivals_there_is_no_gain(panel, feed):
    feed.take(rehearsal.events(rivals=(), steps_per_epoch=5))
    assert not panel.gain.isVisible()
    assert panel.figure.text() == "98.4 %"


def test_a_bar_is_as_long_as_its_share(panel, feed):
    feed.take(rehearsal.events(until=6, steps_per_epoch=5))
    measured(feed, student=0.5, no_KD=0.25, teacher=1.0)
    picture = panel.bars.grab().toImage()
    row = ROW // 2
    color = theme().tokens.student
    filled = [x for x in range(picture.width()) if picture.pixelColor(x, row).name().upper() == color]
    track = panel.bars.width() - NAMES - VALUES
    assert len(filled) == pytest.approx(track * 0.5, abs=2)


def test_a_hidden_panel_catches_up_when_it_is_shown(panel, feed):
    panel.host.hide()
    feed.take(rehearsal.events(steps_per_epoch=5))
    assert panel.figure.text() != "98.4 %"
    panel.host.show()
    assert panel.figure.text() == "98.4 %"


def test_the_bars_can_be_heard(panel, feed):
    feed.take(rehearsal.events(steps_per_epoch=5))
    assert panel.bars.accessibleName() == "distilled 95.6, no KD 75.8"
    assert {name for name, _ in race.standing(feed).rows} == {STUDENT, "no KD"}

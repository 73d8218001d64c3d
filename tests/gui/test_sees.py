"""The panel that shows what the student sees: following the samples, and writing to them alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QLineEdit
from pytestqt.qtbot import QtBot

from kd_gui.panels import sees
from kd_gui.panels.sees import SeesPanel
from kd_gui.state.demo_samples import demo_samples, write
from kd_gui.state.samples import Samples
from tests.gui.hosting import show_inside

MAPS = [
    {
        "name": "attention",
        "title": "Activation attention",
        "taps": [
            {"name": "stage3", "words": "last stage, 8×8, 64 channels"},
            {"name": "stage2", "words": "stage 2, 16×16, 32 channels"},
        ],
    },
    {
        "name": "grad-cam",
        "title": "Grad-CAM",
        "taps": [{"name": "stage3", "words": "last stage, 8×8, 64 channels"}],
    },
]


def open_panel(qtbot: QtBot, samples: Samples) -> SeesPanel:
    panel = SeesPanel(samples)
    show_inside(qtbot, panel, 400, 330)
    return panel


def test_the_demo_shows_itself(qtbot: QtBot) -> None:
    widget = sees.demo()
    qtbot.addWidget(widget)
    widget.resize(400, 330)
    assert not widget.grab().isNull()


def test_it_follows_from_nothing_to_pictures_to_a_student(qtbot: QtBot, tmp_path: Path) -> None:
    samples = Samples()
    panel = open_panel(qtbot, samples)
    nothing = panel.grab().toImage()
    path, snapshots = write(tmp_path, epochs=1)
    samples.load(path)
    assert "teacher" in panel.pictures.accessibleDescription()
    assert panel.similarity.text() == ""
    assert panel.scrubber.words.text() == "no epoch yet"
    assert not panel.scrubber.groove.isEnabled()
    with qtbot.waitSignal(samples.epochs_changed):
        samples.add_snapshot(0, snapshots[0])
    assert panel.similarity.text().startswith("similarity 0.")
    assert panel.scrubber.words.text() == "epoch 0 of 0"
    assert panel.grab().toImage() != nothing


def test_arrow_keys_on_the_strip_change_the_picture(qtbot: QtBot) -> None:
    samples = demo_samples()
    panel = open_panel(qtbot, samples)
    qtbot.keyClick(panel.strip, Qt.Key.Key_Right)
    assert samples.current == 4
    qtbot.keyClick(panel.strip, Qt.Key.Key_Home)
    assert samples.current == 0


def test_the_filter_fills_the_strip_or_says_that_it_is_empty(qtbot: QtBot) -> None:
    samples = demo_samples()
    panel = open_panel(qtbot, samples)
    qtbot.mouseClick(panel.filter.button("wrong"), Qt.MouseButton.LeftButton)
    assert samples.filter == "wrong"
    assert samples.shown
    assert all(samples.marks(index)[0] for index in samples.shown)
    shown = panel.strip.rect_of(samples.shown[0])
    assert shown is not None
    before = demo_samples(-1)
    panel = open_panel(qtbot, before)
    before.set_filter("disagree")
    assert before.shown == []
    assert panel.filter.current() == "disagree"
    assert panel.strip.rect_of(0) is None


def test_the_scrubber_stands_at_epochs_only_and_follows_the_newest(qtbot: QtBot) -> None:
    samples = demo_samples(4)
    panel = open_panel(qtbot, samples)
    groove = panel.scrubber.groove
    assert groove.value() == 1000
    groove.moved.emit(0.3, False)
    assert samples.epoch == 1
    assert groove.value() == 250
    assert panel.scrubber.words.text() == "epoch 1 of 4"
    groove.moved.emit(0.95, True)
    assert samples.epoch is None


def test_a_wrong_class_is_named_and_so_is_the_right_one(qtbot: QtBot) -> None:
    samples = demo_samples()
    panel = open_panel(qtbot, samples)
    samples.set_filter("wrong")
    look = samples.look()
    assert look is not None
    assert samples.pictures is not None
    told = panel.pictures.accessibleDescription()
    assert f"student {samples.pictures.class_name(look.student_says)}" in told
    assert f"it is: {samples.pictures.class_name(look.label)}" in told
    assert "%" in told


def test_holding_d_swaps_the_models_and_letting_go_swaps_back(qtbot: QtBot) -> None:
    panel = open_panel(qtbot, demo_samples())
    qtbot.keyPress(panel.strip, Qt.Key.Key_D)
    assert panel.pictures.swapped
    qtbot.keyRelease(panel.strip, Qt.Key.Key_D)
    assert not panel.pictures.swapped


def test_d_typed_into_a_field_of_the_window_stays_a_letter(qtbot: QtBot) -> None:
    panel, field = SeesPanel(demo_samples()), QLineEdit()
    window = show_inside(qtbot, panel, 400, 330)
    field.setParent(window)
    field.show()
    qtbot.keyClick(field, Qt.Key.Key_D)
    assert field.text() == "d"
    qtbot.keyPress(window, Qt.Key.Key_D)
    assert panel.pictures.swapped
    panel.hide()
    assert not panel.pictures.swapped


def test_map_and_place_are_choices_only_where_there_are_several(qtbot: QtBot) -> None:
    samples = demo_samples()
    panel = open_panel(qtbot, samples)
    assert panel.map.button.isHidden()
    assert panel.place.words.text() == "last stage, 6×6"
    samples.set_maps(MAPS)
    assert not panel.map.button.isHidden()
    assert [action.text() for action in panel.place.menu.actions()] == ["last stage, 8×8", "stage 2, 16×16"]
    with qtbot.waitSignal(samples.wanted) as asked:
        panel.place.menu.actions()[1].trigger()
    assert (asked.args[0]["probe"], asked.args[0]["tap"]) == ("attention", "stage2")
    with qtbot.waitSignal(samples.wanted) as asked:
        panel.map.menu.actions()[1].trigger()
    assert (asked.args[0]["probe"], asked.args[0]["tap"]) == ("grad-cam", "auto")
    assert panel.place.button.isHidden(), "Grad-CAM has one place here"


def test_the_opacity_is_kept_for_the_next_time(qtbot: QtBot) -> None:
    panel = open_panel(qtbot, demo_samples())
    qtbot.mouseClick(panel.opacity, Qt.MouseButton.LeftButton, pos=QPoint(panel.opacity.width() - 1, 9))
    assert panel.pictures.opacity == pytest.approx(1.0, abs=0.01)
    assert open_panel(qtbot, demo_samples()).pictures.opacity == pytest.approx(1.0, abs=0.01)
    panel.set_opacity(0.6)

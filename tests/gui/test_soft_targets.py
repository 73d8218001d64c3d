"""The temperature lens: bars that follow T, figures, and the sentences below."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PySide6.QtGui import QColor
from pytestqt.qtbot import QtBot

from kd_gui.panels import soft_targets
from kd_gui.panels.soft_targets import SoftTargetsPanel, explain, figure, odds
from kd_gui.plots.bars import ClassBars
from kd_gui.state import answers
from kd_gui.state.demo_samples import demo_samples
from kd_gui.state.samples import Samples
from kd_gui.theme import theme
from tests.gui.hosting import show_inside


def open_panel(qtbot: QtBot, samples: Samples) -> SoftTargetsPanel:
    panel = SoftTargetsPanel(samples)
    show_inside(qtbot, panel, 400, 360)
    return panel


def bars(widget: ClassBars) -> dict[str, float]:
    rows = [row.rsplit(" ", 1) for row in widget.accessibleDescription().split(", ")]
    return {name: float(value) for name, value in rows}


def test_the_demo_shows_itself(qtbot: QtBot) -> None:
    widget = soft_targets.demo()
    qtbot.addWidget(widget)
    assert not widget.grab().isNull()


def test_the_lens_works_before_any_run_and_softens_as_t_rises(qtbot: QtBot) -> None:
    samples = demo_samples(-1)
    panel = open_panel(qtbot, samples)
    first = []
    for temperature in (1.0, 4.0, 16.0):
        samples.set_temperature(temperature)
        first.append(max(bars(panel.teacher).values()))
    assert first == sorted(first, reverse=True)
    assert first[0] > 2 * first[-1]
    assert panel.title.text() == "Soft targets at T = 16.0"
    assert panel.scaled.text() == "T² = 256"
    assert "Press Distill" in panel.student.accessibleDescription()


def test_both_models_speak_of_the_same_classes_in_the_same_order(qtbot: QtBot) -> None:
    samples = demo_samples()
    panel = open_panel(qtbot, samples)
    samples.set_temperature(3.0)
    assert list(bars(panel.teacher)) == list(bars(panel.student))
    soft = samples.soft_targets()
    assert soft is not None
    assert soft.kl is not None
    assert panel.divergence.text() == f"student · KL {soft.kl:.4f}"
    assert panel.scaled.text() == f"× T² 9.00 = {figure(9 * soft.kl)}"
    assert panel.entropy.text() == f"entropy {soft.entropy:.2f} nats"
    assert list(bars(panel.teacher).values()) == sorted(bars(panel.teacher).values(), reverse=True)


def test_scrubbing_changes_the_student_and_leaves_the_teacher(qtbot: QtBot) -> None:
    samples = demo_samples()
    panel = open_panel(qtbot, samples)
    teacher, student = bars(panel.teacher), bars(panel.student)
    samples.set_epoch(0)
    assert bars(panel.teacher) == teacher
    assert bars(panel.student) != student
    samples.set_epoch(None)
    assert bars(panel.student) == student


def test_another_picture_changes_both(qtbot: QtBot) -> None:
    samples = demo_samples()
    panel = open_panel(qtbot, samples)
    teacher, student = bars(panel.teacher), bars(panel.student)
    samples.select(7)
    assert bars(panel.teacher) != teacher
    assert bars(panel.student) != student


def test_without_pictures_it_says_what_will_be_here(qtbot: QtBot) -> None:
    panel = open_panel(qtbot, Samples())
    assert "appears here" in panel.teacher.accessibleDescription()
    assert panel.explanation.text() == ""


def test_the_sentences_follow_the_temperature() -> None:
    logits = np.array([9.0, 4.0, 3.0, 0.0, 0.0, 0.0])
    names = ["deer", "horse", "bird", "dog", "cat"]
    said = []
    for temperature in (1.0, 4.0, 40.0):
        soft = answers.soft_targets(logits, None, temperature)
        assert soft is not None
        said.append(explain(soft, names))
    assert said[0].startswith("Nearly all of the answer is deer")
    assert "almost is: horse, then bird" in said[1]
    assert "T² = 16.0" in said[1]
    assert said[2].startswith("All classes are nearly alike")


def test_two_classes_have_one_runner_up() -> None:
    soft = answers.soft_targets(np.array([3.0, 0.0]), None, 2.0)
    assert soft is not None
    assert "almost is: sick." in explain(soft, ["well", "sick"])


@pytest.mark.parametrize(
    ("ratio", "words"), [(1.94, "1.9 : 1"), (53.6, "54 : 1"), (math.inf, "over 999 : 1"), (1.0, "1.0 : 1")]
)
def test_odds_are_written_for_people(ratio: float, words: str) -> None:
    assert odds(ratio) == words


def test_bars_are_as_long_as_their_values(qtbot: QtBot) -> None:
    widget = ClassBars("teacher", 2)
    qtbot.addWidget(widget)
    widget.resize(300, widget.sizeHint().height())
    widget.set_rows(["a", "b"], [0.8, 0.4])
    image, ink = widget.grab().toImage(), QColor(theme().tokens.teacher)
    middles = [round(widget.height() * (row + 0.5) / 2) for row in (0, 1)]
    long, short = (sum(image.pixelColor(x, y) == ink for x in range(image.width())) for y in middles)
    assert long == pytest.approx(2 * short, abs=4)


def test_long_names_leave_room_for_the_bars_and_short_ones_leave_more(qtbot: QtBot) -> None:
    starts = []
    for name in ("7", "a class with a name that is longer than anyone would wish for"):
        widget = ClassBars("teacher", 1)
        qtbot.addWidget(widget)
        widget.resize(300, 19)
        widget.set_vocabulary([name])
        widget.set_rows([name], [0.5])
        image, ink = widget.grab().toImage(), QColor(theme().tokens.teacher)
        starts.append(next(x for x in range(300) if image.pixelColor(x, 9) == ink))
    assert starts[0] < starts[1] <= 150


def test_bars_without_rows_say_what_will_be_there(qtbot: QtBot) -> None:
    widget = ClassBars("student", 2)
    qtbot.addWidget(widget)
    widget.resize(300, 38)
    widget.set_empty("nothing yet")
    assert widget.accessibleDescription() == "nothing yet"
    assert widget.grab().toImage().pixelColor(150, 4) == QColor(theme().tokens.field)

"""Forms from knobs: the right control for each kind, values kept exactly, nothing wrong passed on."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QStyleOptionComboBox

from kd_engine.errors import Problem
from kd_engine.knobs import Knob
from kd_gui.forms.field import QuietCombo
from kd_gui.forms.fields import (
    ChoiceField,
    IntField,
    NumberField,
    PathField,
    SwitchField,
    TextField,
    field_for,
)
from kd_gui.forms.form import Form
from kd_gui.forms.scale import counted, position, value_at, written
from kd_gui.forms.slider import SliderRow
from tests.gui.hosting import show_inside

T = Knob(
    "temperature", "float", 4.0, "Temperature", "Softens.", low=1, high=20, scale="log", live=True, unit="K"
)
WEIGHT = Knob("weight", "float", 0.9, "Weight", "", low=0, high=10, scale="log", unit="weight", live=True)
SHARE = Knob("validation", "float", 0.1, "Validation", "", low=0, high=0.5)
EPOCHS = Knob("epochs", "int", 10, "Epochs", "", low=1, high=10_000, scale="log")
LABELS = Knob("labels_per_class", "int", None, "Labels", "", low=1, optional=True)
AUGMENT = Knob("augment", "choice", "none", "Augment", "", choices=("none", "flip", "crop"))
NESTEROV = Knob("nesterov", "bool", False, "Nesterov", "", advanced=True)
MILESTONES = Knob("milestones", "text", "0.5,0.75", "Milestones", "")
FOLDER = Knob("path", "text", None, "Folder", "")
WARMUP = Knob("warmup_epochs", "float", 0, "Warm-up", "", low=0, high=1000)

KINDS = [
    (T, SliderRow),
    (WEIGHT, SliderRow),
    (SHARE, SliderRow),
    (EPOCHS, IntField),
    (LABELS, IntField),
    (AUGMENT, ChoiceField),
    (NESTEROV, SwitchField),
    (MILESTONES, TextField),
    (FOLDER, PathField),
    (WARMUP, NumberField),
]


@pytest.mark.parametrize("knob", [T, WEIGHT, SHARE], ids=lambda knob: knob.name)
def test_a_sliders_ends_are_the_knobs_limits(knob: Knob) -> None:
    assert value_at(knob, 0.0) == knob.low
    assert value_at(knob, 1.0) == knob.high
    assert position(knob, knob.low) == 0.0
    assert position(knob, knob.high) == 1.0


@pytest.mark.parametrize("knob", [T, WEIGHT, SHARE], ids=lambda knob: knob.name)
@given(where=st.floats(0, 1), further=st.floats(0, 1))
def test_a_slider_goes_up_and_gives_allowed_values_near_its_place(
    knob: Knob, where: float, further: float
) -> None:
    here, there = sorted((where, further))
    assert value_at(knob, here) <= value_at(knob, there)
    value = value_at(knob, where)
    assert knob.problem(value) is None
    assert abs(position(knob, value) - where) < 0.03
    assert value_at(knob, position(knob, value)) == value


def test_a_logarithmic_slider_from_zero_moves_by_decades_after_its_zero() -> None:
    assert value_at(WEIGHT, 0.0) == 0.0
    places = [position(WEIGHT, 10.0**power) for power in (-3, -2, -1, 0, 1)]
    steps = [b - a for a, b in pairwise(places)]
    assert steps == pytest.approx([steps[0]] * 4)
    assert places[0] > 0.04


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8.0, "8.0"),
        (0.9, "0.90"),
        (0.05, "0.05"),
        (200.0, "200"),
        (1000.0, "1000"),
        (5e-4, "0.0005"),
        (1.25, "1.25"),
        (0.0, "0"),
        (1e-6, "1e-06"),
        (15, "15"),
        (12.5, "12.5"),
        (100.0, "100"),
    ],
)
def test_numbers_are_written_for_a_person(value: float, text: str) -> None:
    assert written(value) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(640, "640"), (78_042, "78 k"), (272_474, "0.27 M"), (11_200_000, "11.2 M"), (1_300_000_000, "1.3 G")],
)
def test_counts_are_short(number: int, text: str) -> None:
    assert counted(number) == text


@pytest.mark.parametrize(("knob", "kind"), KINDS, ids=lambda part: getattr(part, "name", ""))
def test_each_kind_of_knob_gets_its_control(qtbot, knob: Knob, kind: type) -> None:
    field = field_for(knob)
    qtbot.addWidget(field)
    assert type(field) is kind
    assert field.focusProxy().accessibleName() == knob.label
    heard: list[object] = []
    field.edited.connect(lambda value, _more: heard.append(value))
    field.set_value(knob.default)
    assert field.value() == knob.default
    assert heard == []


def slider(qtbot, knob: Knob = T) -> tuple[SliderRow, list[tuple[float, bool]]]:
    row = SliderRow(knob)
    show_inside(qtbot, row, 236, 60)
    heard: list[tuple[float, bool]] = []
    row.edited.connect(lambda value, more: heard.append((value, more)))
    return row, heard


def test_a_drag_tells_one_beginning_and_then_more(qtbot) -> None:
    row, heard = slider(qtbot)
    groove, y = row.groove, row.groove.height() // 2
    qtbot.mousePress(groove, Qt.MouseButton.LeftButton, pos=QPoint(20, y))
    for x in (60, 120, 200):
        qtbot.mouseMove(groove, QPoint(x, y))
    qtbot.mouseRelease(groove, Qt.MouseButton.LeftButton, pos=QPoint(200, y))
    assert [more for _value, more in heard] == [False, True, True, True]
    values = [value for value, _more in heard]
    assert values == sorted(values)
    qtbot.mousePress(groove, Qt.MouseButton.LeftButton, pos=QPoint(20, y))
    assert heard[-1][1] is False


def test_a_press_on_the_handle_does_not_move_it(qtbot) -> None:
    row, heard = slider(qtbot)
    row.set_value(4.321)
    x = round(row.groove._handle())
    qtbot.mousePress(row.groove, Qt.MouseButton.LeftButton, pos=QPoint(x + 3, row.groove.height() // 2))
    assert heard == []
    assert row.value() == 4.321


def test_arrows_and_page_keys_move_a_slider(qtbot) -> None:
    row, heard = slider(qtbot)
    qtbot.keyClick(row.groove, Qt.Key.Key_Right)
    qtbot.keyClick(row.groove, Qt.Key.Key_PageUp)
    qtbot.keyClick(row.groove, Qt.Key.Key_Home)
    assert 4.0 < heard[0][0] < 4.3 < heard[1][0]
    assert heard[2][0] == 1.0


def test_a_long_name_in_a_narrow_list_is_shortened_in_its_middle(qtbot) -> None:
    combo = QuietCombo()
    qtbot.addWidget(combo)
    combo.addItem("torchvision:mobilenet_v3_large")

    def shown(width: int) -> str:
        combo.setFixedWidth(width)
        option = QStyleOptionComboBox()
        combo.initStyleOption(option)
        return option.currentText

    start, end = shown(160).split("…")
    assert "torchvision:mobilenet_v3_large".startswith(start)
    assert "torchvision:mobilenet_v3_large".endswith(end)
    assert min(len(start), len(end)) > 3
    assert shown(400) == combo.currentText() == "torchvision:mobilenet_v3_large"


def test_the_wheel_moves_a_slider_only_when_it_has_the_focus(qtbot) -> None:
    row, heard = slider(qtbot)

    def turn() -> bool:
        where = QPointF(50, 8)
        event = QWheelEvent(
            where, row.groove.mapToGlobal(where), QPoint(), QPoint(0, 120), Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(row.groove, event)
        return event.isAccepted()

    assert not turn()
    assert heard == []
    row.window().activateWindow()
    row.groove.setFocus()
    qtbot.waitUntil(row.groove.hasFocus)
    turn()
    assert len(heard) == 1


def test_a_double_click_types_a_value_and_it_is_kept_to_the_digit(qtbot) -> None:
    row, heard = slider(qtbot)
    qtbot.mouseDClick(row.figure, Qt.MouseButton.LeftButton)
    assert row.typing.isVisible()
    row.typing.setText("3.14159")
    qtbot.keyClick(row.typing, Qt.Key.Key_Return)
    assert heard == [(3.14159, False)]
    assert row.value() == 3.14159
    assert not row.typing.isVisible()


def test_a_typed_value_out_of_range_is_explained_and_told_to_no_one(qtbot) -> None:
    row, heard = slider(qtbot)
    row.start_typing()
    row.typing.setText("0.5")
    qtbot.keyClick(row.typing, Qt.Key.Key_Return)
    assert heard == []
    assert row.problem() == T.problem(0.5)
    qtbot.keyClick(row.typing, Qt.Key.Key_Escape)
    assert row.problem() == ""
    assert row.value() == 4.0
    assert row.figure.isVisible()


def test_a_comma_is_read_as_a_decimal_point(qtbot) -> None:
    row, heard = slider(qtbot)
    row.start_typing()
    row.typing.setText("2,5")
    qtbot.keyClick(row.typing, Qt.Key.Key_Return)
    assert heard == [(2.5, False)]


def test_null_is_one_step_below_the_least_and_reads_all(qtbot) -> None:
    field = IntField(LABELS)
    qtbot.addWidget(field)
    heard: list[object] = []
    field.edited.connect(lambda value, _more: heard.append(value))
    field.set_value(None)
    assert (field.value(), field.spin.text()) == (None, "all")
    field.spin.stepUp()
    field.spin.stepDown()
    assert heard == [1, None]


def test_a_loaded_number_out_of_range_can_be_put_right_by_leaving_the_box(qtbot) -> None:
    field = IntField(EPOCHS)
    qtbot.addWidget(field)
    heard: list[object] = []
    field.edited.connect(lambda value, _more: heard.append(value))
    field.set_value(0)
    assert field.problem() == EPOCHS.problem(0)
    field.spin.editingFinished.emit()
    assert heard == [1]
    assert field.problem() == ""


def test_choices_and_switches_tell_what_was_chosen(qtbot) -> None:
    choice, switch = ChoiceField(AUGMENT), SwitchField(NESTEROV)
    heard: list[object] = []
    for field in (choice, switch):
        qtbot.addWidget(field)
        field.edited.connect(lambda value, _more: heard.append(value))
    choice.set_value("none")
    choice.combo.setCurrentIndex(2)
    choice.combo.activated.emit(2)
    switch.switch.click()
    assert heard == ["crop", True]


def test_a_number_without_a_slider_is_typed_and_checked(qtbot) -> None:
    field = NumberField(WARMUP)
    qtbot.addWidget(field)
    heard: list[object] = []
    field.edited.connect(lambda value, _more: heard.append(value))
    field.set_value(1)
    field.line.setText("-3")
    field.line.editingFinished.emit()
    assert heard == []
    assert field.problem() == WARMUP.problem(-3.0)
    field.line.setText("2.5")
    field.line.editingFinished.emit()
    assert heard == [2.5]
    assert field.problem() == ""


def test_browsing_fills_in_a_path(qtbot, monkeypatch: pytest.MonkeyPatch) -> None:
    field = PathField(FOLDER)
    qtbot.addWidget(field)
    heard: list[object] = []
    field.edited.connect(lambda value, _more: heard.append(value))
    monkeypatch.setattr("kd_gui.forms.fields.QFileDialog.getExistingDirectory", lambda *_: "/pictures")
    field.browse.click()
    assert heard == ["/pictures"]
    monkeypatch.setattr("kd_gui.forms.fields.QFileDialog.getExistingDirectory", lambda *_: "")
    field.browse.click()
    assert heard == ["/pictures"]


def test_a_form_shows_any_knobs_and_tells_dotted_paths(qtbot) -> None:
    form = Form([T, EPOCHS, NESTEROV], {"temperature": 8.0, "epochs": 3}, "stages.0")
    qtbot.addWidget(form)
    heard: list[tuple[str, object]] = []
    form.edited.connect(lambda path, value, _more: heard.append((path, value)))
    assert form.fields["temperature"].value() == 8.0
    form.fields["epochs"].spin.stepUp()
    assert heard == [("stages.0.epochs", 4)]


def test_live_only_leaves_out_what_cannot_change_during_a_run(qtbot) -> None:
    form = Form([T, EPOCHS], {}, "", live_only=True)
    qtbot.addWidget(form)
    assert list(form.fields) == ["temperature"]


def test_advanced_settings_are_folded_until_asked_for_or_wrong(qtbot) -> None:
    form = Form([T, NESTEROV], {}, "o")
    show_inside(qtbot, form, 236, 300)
    nesterov = form.fields["nesterov"]
    assert not nesterov.isVisible()
    form.more.click()
    assert nesterov.isVisible()
    form.more.click()
    form.show_problems([Problem("o.nesterov", "not with adamw")])
    assert nesterov.isVisible()
    assert nesterov.problem() == "not with adamw"


def test_a_form_keeps_its_own_problems_and_hands_back_the_rest(qtbot) -> None:
    form = Form([T, EPOCHS], {}, "stages.0")
    qtbot.addWidget(form)
    other = Problem("stages.1.epochs", "no")
    assert form.show_problems([Problem("stages.0.epochs", "too few"), other]) == [other]
    assert form.fields["epochs"].problem() == "too few"
    assert form.show_problems([]) == []
    assert form.fields["epochs"].problem() == ""

"""The look: tokens that can be read, a switch that everything hears, icons that draw something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFontMetricsF
from PySide6.QtWidgets import QApplication, QPushButton

from kd_gui.theme import DARK, LIGHT, Tokens, apply, font, icon, series_style, style, term_style, theme
from kd_gui.theme.icons import icon_names
from kd_gui.theme.widgets import TOOLTIP, Card, Elided, IconButton, PillButton, Segmented, in_lines, primary


@pytest.fixture(autouse=True)
def dressed(qapp: QApplication) -> Iterator[None]:
    apply(qapp)
    theme().set_dark(False)
    yield
    theme().set_dark(False)


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("tokens", [LIGHT, DARK], ids=["light", "dark"])
def test_text_in_every_tone_can_be_read_on_a_card(tokens: Tokens) -> None:
    for name in ("text", "muted", "teacher", "warn", "bad"):
        assert contrast(getattr(tokens, name), tokens.surface) >= 4.5, name
    for name in ("student", "good"):  # large or graphical: WCAG asks for 3
        assert contrast(getattr(tokens, name), tokens.surface) >= 3.7, name
    assert contrast(tokens.on_student, tokens.student) >= 3.7


@pytest.mark.parametrize("tokens", [LIGHT, DARK], ids=["light", "dark"])
def test_the_sheet_uses_only_colours_that_exist(tokens: Tokens) -> None:
    sheet = style.sheet(tokens)
    assert "{{" not in sheet
    assert all(QColor(color).isValid() for color in re.findall(r"#\w+", sheet))
    assert sheet.count("{") == sheet.count("}")
    assert not re.search(r"-\s*\n", sheet), "a property's name is torn at its hyphen"


def test_both_tables_name_the_same_meanings() -> None:
    for field in fields(Tokens):
        if field.name != "dark":
            assert re.fullmatch("#[0-9A-F]{6}", getattr(LIGHT, field.name)), field.name
            assert re.fullmatch("#[0-9A-F]{6}", getattr(DARK, field.name)), field.name


def test_dark_is_worn_by_the_application_and_told_once(qapp: QApplication) -> None:
    heard: list[bool] = []
    theme().changed.connect(lambda: heard.append(theme().tokens.dark))
    theme().set_dark(True)
    theme().set_dark(True)
    assert heard == [True]
    assert qapp.palette().window().color().name().upper() == DARK.ground
    assert DARK.surface in qapp.styleSheet()
    theme().set_dark(False)
    assert qapp.palette().window().color().name().upper() == LIGHT.ground


def test_roles_of_curves_are_fixed_and_never_by_colour_alone() -> None:
    assert series_style("student") == (LIGHT.student, Qt.PenStyle.SolidLine)
    assert series_style("teacher") == (LIGHT.teacher, Qt.PenStyle.DashLine)
    first, second = series_style("no KD", 0), series_style("T 1", 1)
    assert first[0] == second[0] == LIGHT.rival
    assert first[1] != second[1]
    terms = [term_style("kd"), term_style("label"), term_style("at_stage3"), term_style("crd", 1)]
    assert len(set(terms)) == 4
    theme().set_dark(True)
    assert series_style("student")[0] == DARK.student


@pytest.mark.parametrize("name", icon_names())
def test_every_icon_draws_something_in_the_colour_asked_for(name: str, qapp: QApplication) -> None:
    image = icon(name, "#FF0000").pixmap(16, 16).toImage()
    solid = [
        image.pixelColor(x, y)
        for x in range(image.width())
        for y in range(image.height())
        if image.pixelColor(x, y).alpha() > 200
    ]
    assert solid
    if name not in ("check", "chevron-down", "chevron-up"):  # the style sheet's own, in fixed colours
        assert all(color.red() > 200 and color.green() < 60 for color in solid)


def test_an_icon_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError, match="no icon 'nothing'"):
        icon("nothing")


def test_digits_line_up_in_every_role(qapp: QApplication) -> None:
    for role in ("caption", "text", "figure"):
        widths = {round(QFontMetricsF(font(role)).horizontalAdvance(digit), 3) for digit in "0123456789"}
        assert len(widths) == 1, role


def test_a_segmented_control_tells_only_what_the_user_chose(qtbot) -> None:
    control = Segmented({"all": "all", "wrong": "wrong"}, "wrong")
    qtbot.addWidget(control)
    heard: list[str] = []
    control.chosen.connect(heard.append)
    control.set_current("all")
    assert (control.current(), heard) == ("all", [])
    control.button("wrong").click()
    assert (control.current(), heard) == ("wrong", ["wrong"])
    control.set_title("wrong", "wrong 12")
    assert control.button("wrong").text() == "wrong 12"
    with pytest.raises(KeyError):
        control.set_current("none")


def test_controls_have_the_heights_of_the_design(qtbot) -> None:
    card = Card("Experiment")
    qtbot.addWidget(card)
    parts = [primary("Distill"), QPushButton("Pause"), PillButton("pill"), IconButton("undo", "Undo")]
    for part in parts:
        card.body.addWidget(part)
        part.ensurePolished()
    card.resize(400, 300)
    card.grab()
    assert [part.height() for part in parts] == [32, 32, 22, 26]
    assert card.accessibleName() == "Experiment"
    assert parts[3].accessibleName() == "Undo"


def test_a_long_label_is_cut_with_its_whole_text_in_the_tooltip(qtbot) -> None:
    label = Elided("a name that is much too long for the room it has")
    qtbot.addWidget(label)
    label.resize(60, 20)
    label.grab()
    assert label.toolTip() == label.text()
    label.resize(600, 20)
    label.grab()
    assert label.toolTip() == ""


def test_a_tooltip_has_lines_that_can_be_read_and_keeps_those_that_it_had() -> None:
    told = in_lines("word " * 40 + "\n1 to 20").splitlines()
    assert max(map(len, told)) <= TOOLTIP
    assert (told[-1], len(told)) == ("1 to 20", 5)
    assert in_lines("") == ""

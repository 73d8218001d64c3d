"""Heat over pictures: fixed levels, the difference's middle, outlines, and what reaches the screen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from PySide6.QtGui import QColor, QImage
from pytestqt.qtbot import QtBot

from kd_gui.plots import colors
from kd_gui.plots.heatmap import HeatPictures, TileText
from kd_gui.theme import DARK, LIGHT, Tokens, theme


@pytest.fixture(autouse=True)
def light() -> Iterator[None]:
    theme().set_dark(False)
    yield
    theme().set_dark(False)


def shown(widget: HeatPictures) -> QImage:
    return widget.grab().toImage()


def pictures(qtbot: QtBot) -> HeatPictures:
    widget = HeatPictures()
    qtbot.addWidget(widget)
    widget.resize(372, widget.heightForWidth(372))
    widget.set_picture(np.full((8, 8, 3), (40, 200, 90), np.uint8))
    return widget


def middle_of(image: QImage, place: int, side: int = 112, gap: int = 6) -> QColor:
    return image.pixelColor(place * (side + gap) + side // 2, side // 2)


def test_heat_runs_from_black_to_pale_yellow_and_only_gets_brighter() -> None:
    table = colors.heat_table()
    light = [QColor(int(color)).lightnessF() for color in table]
    assert table.shape == (256,)
    assert light[0] < 0.02
    assert light[-1] > 0.8
    assert all(b >= a - 0.004 for a, b in pairwise(light))


@pytest.mark.parametrize("tokens", [LIGHT, DARK])
def test_the_differences_middle_is_the_surface_and_its_ends_are_the_models_colours(tokens: Tokens) -> None:
    table = colors.difference_table(tokens)
    same = np.full((1, 1), 77, np.uint8)
    assert QColor(int(table[colors.difference_levels(same, same)][0, 0])) == QColor(tokens.surface)
    nothing, all_heat = np.zeros((1, 1), np.uint8), np.full((1, 1), 255, np.uint8)
    assert QColor(int(table[colors.difference_levels(all_heat, nothing)][0, 0])) == QColor(tokens.teacher)
    assert QColor(int(table[colors.difference_levels(nothing, all_heat)][0, 0])) == QColor(tokens.student)


def test_rows_stay_rows_and_colours_keep_their_order() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 2] = (255, 128, 1)
    made = colors.picture(image)
    assert (made.width(), made.height()) == (3, 2)
    assert made.pixelColor(2, 0).getRgb()[:3] == (255, 128, 1)
    assert made.pixelColor(0, 1).getRgb()[:3] == (0, 0, 0)
    packed = np.array([[0xFF010203, 0xFFFFFFFF]], np.uint32)
    assert colors.to_image(packed).pixelColor(0, 0).getRgb()[:3] == (1, 2, 3)


def test_an_outline_encloses_its_mask_and_little_more() -> None:
    mask = np.zeros((20, 40), bool)
    mask[5:15, 10:30] = True
    box = colors.outline(mask).boundingRect()
    assert (box.left(), box.right()) == (pytest.approx(10 / 40, abs=0.01), pytest.approx(30 / 40, abs=0.01))
    assert (box.top(), box.bottom()) == (pytest.approx(5 / 20, abs=0.02), pytest.approx(15 / 20, abs=0.02))
    assert colors.outline(np.zeros((9, 9), bool)).isEmpty()


def test_an_object_at_the_pictures_edge_has_a_closed_outline() -> None:
    box = colors.outline(np.ones((10, 10), bool)).boundingRect()
    for end, place in ((box.left(), 0), (box.top(), 0), (box.right(), 1), (box.bottom(), 1)):
        assert end == pytest.approx(place, abs=0.05)


def test_the_heats_are_at_their_places_and_on_one_scale(qtbot: QtBot) -> None:
    widget = pictures(qtbot)
    widget.set_opacity(1.0)
    widget.set_heats(np.full((8, 8), 128, np.uint8), np.full((8, 8), 255, np.uint8))
    image = shown(widget)
    table = colors.heat_table()
    assert near(middle_of(image, 0), QColor(int(table[128])))
    assert near(middle_of(image, 1), QColor(int(table[255])))
    assert near(middle_of(image, 2), QColor(int(colors.difference_table(LIGHT)[255 + 127])))


def test_opacity_goes_from_the_picture_alone_to_the_heat_alone(qtbot: QtBot) -> None:
    widget = pictures(qtbot)
    widget.set_heats(np.zeros((8, 8), np.uint8), None)
    green = []
    for opacity in (0.0, 0.5, 1.0):
        widget.set_opacity(opacity)
        green.append(middle_of(shown(widget), 0).green())
    assert green[0] == pytest.approx(200, abs=2)
    assert green[1] == pytest.approx(100, abs=3)
    assert green[2] == pytest.approx(0, abs=2)


def test_swapping_changes_places_and_swapping_back_restores_every_pixel(qtbot: QtBot) -> None:
    widget = pictures(qtbot)
    widget.set_opacity(1.0)
    widget.set_heats(np.full((8, 8), 30, np.uint8), np.full((8, 8), 220, np.uint8))
    before = shown(widget)
    widget.set_swapped(True)
    swapped = shown(widget)
    assert middle_of(swapped, 0) == middle_of(before, 1)
    assert middle_of(swapped, 1) == middle_of(before, 0)
    assert middle_of(swapped, 2) == middle_of(before, 2)
    widget.set_swapped(False)
    assert shown(widget) == before


def test_a_student_without_heat_leaves_words_in_its_tile(qtbot: QtBot) -> None:
    widget = pictures(qtbot)
    widget.set_heats(np.full((8, 8), 255, np.uint8), None)
    silent = shown(widget)
    widget.set_empty("", "Press Distill.", "")
    assert near(silent.pixelColor(130, 20), QColor(LIGHT.field))
    assert shown(widget) != silent


def test_the_dark_theme_darkens_where_both_agree(qtbot: QtBot) -> None:
    widget = pictures(qtbot)
    even = np.full((8, 8), 90, np.uint8)
    widget.set_heats(even, even)
    assert near(middle_of(shown(widget), 2), QColor(LIGHT.surface))
    theme().set_dark(True)
    assert near(middle_of(shown(widget), 2), QColor(DARK.surface))


def test_captions_are_there_for_those_who_do_not_see_them(qtbot: QtBot) -> None:
    widget = pictures(qtbot)
    widget.set_texts(
        TileText("teacher", "deer"), TileText("student", "horse", True, "it is: deer"), TileText("d")
    )
    assert widget.accessibleDescription() == "teacher deer; student horse it is: deer; d"
    shown(widget)


def near(one: QColor, other: QColor) -> bool:
    return all(abs(a - b) <= 3 for a, b in zip(one.getRgb(), other.getRgb(), strict=True))

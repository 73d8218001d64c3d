"""The strip: clicks, keys, scrolling to the current picture, marks."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QImage
from pytestqt.qtbot import QtBot

from kd_gui.plots.strip import SampleStrip, Thumb
from kd_gui.theme import theme


@pytest.fixture
def strip(qtbot: QtBot) -> SampleStrip:
    made = SampleStrip()
    qtbot.addWidget(made)
    made.resize(372, made.sizeHint().height())
    grey = QImage(32, 32, QImage.Format.Format_RGB32)
    grey.fill(QColor("#808080"))
    made.set_images([grey] * 30)
    made.set_thumbs([Thumb(i) for i in reversed(range(30))])
    made.show()
    return made


def point_of(strip: SampleStrip, index: int) -> QPoint:
    rect = strip.rect_of(index)
    assert rect is not None
    return rect.center().toPoint()


def test_a_click_tells_the_pictures_index_not_its_place(qtbot: QtBot, strip: SampleStrip) -> None:
    with qtbot.waitSignal(strip.chosen) as chosen:
        qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=point_of(strip, 27))
    assert chosen.args == [27]
    with qtbot.assertNotEmitted(strip.chosen):
        qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(1, 1))


def test_the_current_picture_is_always_brought_into_view(strip: SampleStrip) -> None:
    for index in (0, 29, 12, 11, 13):
        strip.set_current(index)
        assert strip.rect().contains(point_of(strip, index))
    strip.resize(150, strip.height())
    assert strip.rect().contains(point_of(strip, 13))


def test_arrow_keys_move_and_other_keys_are_left_to_the_window(qtbot: QtBot, strip: SampleStrip) -> None:
    moves: list[int] = []
    strip.moved.connect(moves.append)
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Left, Qt.Key.Key_D, Qt.Key.Key_End):
        qtbot.keyClick(strip, key)
    assert moves[:2] == [1, -1]
    assert len(moves) == 3
    assert moves[2] > 1000


def test_few_pictures_do_not_scroll(strip: SampleStrip) -> None:
    strip.set_current(0)
    strip.set_thumbs([Thumb(3), Thumb(4)])
    assert strip.index_at(QPointF(20, 20)) == 3


def test_marks_and_frame_are_painted_and_differ(strip: SampleStrip) -> None:
    seen = []
    for thumb in (Thumb(0), Thumb(0, differs=True), Thumb(0, wrong=True, differs=True)):
        strip.set_thumbs([thumb])
        seen.append(strip.grab().toImage())
    strip.set_current(0)
    framed = strip.grab().toImage()
    assert len({image.cacheKey() for image in seen}) == 3
    assert seen[0] != seen[1]
    assert seen[1] != seen[2]
    rect = strip.rect_of(0)
    assert rect is not None
    frame = framed.pixelColor(int(rect.center().x()), int(rect.top()) - 2)
    assert frame == QColor(theme().tokens.student)


def test_an_empty_strip_says_why(strip: SampleStrip) -> None:
    strip.set_thumbs([])
    blank = strip.grab().toImage()
    strip.set_thumbs([], "They agree on all.")
    assert strip.grab().toImage() != blank
    assert strip.index_at(QPointF(20, 20)) is None

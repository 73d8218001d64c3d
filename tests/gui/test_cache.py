"""What is kept of teachers' answers: read off the GUI thread, cleared, told quietly."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from kd_engine import events as e
from kd_engine.cache import Shelf
from kd_gui.state import wording
from kd_gui.state.studio import Studio
from kd_gui.state.teacher_cache import TeacherCache
from kd_gui.views.cache_dialog import CacheDialog

KEPT = "The teacher's answers are kept: 12% of up to 34 MB are there."


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    made = Shelf(tmp_path / "teachers")
    for key, part, size in (("aa", None, 40_000), ("bb", "held out", 8_000)):
        about = {"teacher": "resnet20", "weights": "bundled:x", "samples": 1437}
        place = made.open(key, about if part is None else {**about, "part": part})
        (place.folder / "logits").write_bytes(b"0" * size)
        place.close()
    return made


@pytest.fixture
def cache(qtbot: QtBot, shelf: Shelf) -> TeacherCache:
    return TeacherCache(shelf=lambda: shelf)


def test_what_is_kept_is_read_elsewhere_and_told(cache: TeacherCache, shelf: Shelf, qtbot: QtBot) -> None:
    cache.look()
    assert cache.answers is None  # not on this thread
    qtbot.waitUntil(lambda: cache.answers is not None)
    assert {one.key: one.held_out for one in cache.answers or ()} == {"aa": False, "bb": True}
    assert cache.bytes == shelf.bytes()


def test_clearing_keeps_what_is_in_use(cache: TeacherCache, shelf: Shelf, qtbot: QtBot) -> None:
    place = shelf.open("aa", {})
    try:
        cache.look()
        qtbot.waitUntil(lambda: not cache.busy)
        assert [one.key for one in cache.answers or () if one.busy] == ["aa"]
        cache.clear()
        qtbot.waitUntil(lambda: not cache.busy)
        assert [one.key for one in cache.answers or ()] == ["aa"]
        assert cache.freed
    finally:
        place.close()


def test_the_dialog_groups_by_teacher_and_clears(cache: TeacherCache, shelf: Shelf, qtbot: QtBot) -> None:
    dialog = CacheDialog(cache)
    qtbot.addWidget(dialog)
    dialog.show()
    assert not dialog.clear.isEnabled()
    qtbot.waitUntil(dialog.clear.isEnabled)
    assert dialog.total.text().endswith("in all")
    assert dialog._grid.itemAtPosition(0, 0).widget().text() == "resnet20 · bundled:x"
    assert dialog._grid.itemAtPosition(1, 0) is None
    dialog.clear.click()
    qtbot.waitUntil(lambda: cache.answers == [])
    assert "freed" in dialog.total.text()
    assert shelf.kept() == []
    assert not dialog.clear.isEnabled()


def test_an_info_about_the_cache_goes_to_the_status_line_only(studio: Studio) -> None:
    told = e.Notice(level="info", code="cache", message=KEPT)
    studio.tidings.follow(told, {}, None)
    assert studio.notices.posts == []
    studio.tidings.follow(e.Notice(level="warning", code="cache", message="No room."), {}, None)
    assert [post.text for post in studio.notices.posts] == ["No room."]
    assert wording.kept(told) == "the teacher's answers are kept"

"""Notices, questions, the export dialog, the sheet of keys, the wording: each on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from kd_engine.catalog import Entry
from kd_engine.events import Preparing
from kd_gui.state import wording
from kd_gui.state.notices import Notices, Offer, Post
from kd_gui.views.export_dialog import Exportable, ExportDialog, proposed_path
from kd_gui.views.notice_bar import NoticeBar, NoticeCard
from kd_gui.views.question import Choice, Question

SUMMARY = {"students": {"student": {"top1_test_last": 0.951, "top1_test_best": 0.953}}}
FORMATS = [
    Entry("exporters", name, name.title(), f"About {name}.", (), facts={"suffix": f".{name}"})
    for name in ("pt2", "safetensors")
]


# ---- notices


def bar(qtbot: QtBot, width: int = 900) -> tuple[Notices, NoticeBar]:
    notices = Notices()
    made = NoticeBar(notices)
    qtbot.addWidget(made)
    made.setFixedWidth(width)
    made.show()
    return notices, made


def test_a_notice_appears_and_goes_when_its_offer_is_taken(qtbot: QtBot) -> None:
    notices, made = bar(qtbot)
    done: list[str] = []
    notices.post(Post("a", "info", "Something.", "", (Offer("Do it", lambda: done.append("done")),)))
    assert made.isVisible()
    qtbot.mouseClick(made.cards[0].buttons[0], Qt.MouseButton.LeftButton)
    assert done == ["done"]
    assert not made.isVisible()


def test_an_offer_that_stays_leaves_the_notice_up(qtbot: QtBot) -> None:
    notices, made = bar(qtbot)
    notices.post(Post("a", "good", "Done.", "", (Offer("Export", lambda: None, stays=True),)))
    qtbot.mouseClick(made.cards[0].buttons[0], Qt.MouseButton.LeftButton)
    assert [card.post.key for card in made.cards] == ["a"]


def test_a_post_takes_the_place_of_an_older_one_with_its_key(qtbot: QtBot) -> None:
    notices, made = bar(qtbot)
    notices.post(Post("a", "info", "One."))
    notices.post(Post("a", "info", "Two."))
    assert [card.text.text() for card in made.cards] == ["Two."]


def test_the_oldest_notice_gives_way_to_the_fourth(qtbot: QtBot) -> None:
    notices, made = bar(qtbot)
    for name in "abcd":
        notices.post(Post(name, "info", name))
    assert [card.post.key for card in made.cards] == ["b", "c", "d"]


def test_buttons_stand_below_the_words_where_it_is_narrow(qtbot: QtBot) -> None:
    post = Post(
        "a", "error", "A sentence of some length. " * 2, "", (Offer("One", print), Offer("Two", print))
    )
    for width, below in ((360, True), (1100, False)):
        notices, made = bar(qtbot, width)
        notices.post(post)
        [card] = made.cards
        qtbot.waitUntil(lambda card=card, below=below: is_below(card) == below)


def is_below(card: NoticeCard) -> bool:
    return card.buttons[0].y() > card.text.geometry().bottom()


# ---- questions


def ask(qtbot: QtBot) -> tuple[Question, list[str]]:
    question = Question("Really?", "It is so.", (Choice("yes", "Yes", role="primary"), Choice("", "No")))
    qtbot.addWidget(question)
    answers: list[str] = []
    question.chosen.connect(answers.append)
    question.open()
    return question, answers


@pytest.mark.parametrize("key", ["yes", ""])
def test_a_question_answers_once_with_what_was_clicked(qtbot: QtBot, key: str) -> None:
    question, answers = ask(qtbot)
    qtbot.mouseClick(question.buttons[key], Qt.MouseButton.LeftButton)
    assert answers == [key]
    assert not question.isVisible()


def test_escape_means_never_mind(qtbot: QtBot) -> None:
    question, answers = ask(qtbot)
    qtbot.keyClick(question, Qt.Key.Key_Escape)
    assert answers == [""]


# ---- export


def dialog(qtbot: QtBot, tmp_path: Path, *weights: str) -> ExportDialog:
    for name in weights:
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    made = ExportDialog(Exportable("run", "Digits: 10 labels", tmp_path, SUMMARY), FORMATS)
    qtbot.addWidget(made)
    made.open()
    return made


def test_the_dialog_offers_the_weights_there_are_with_their_scores(qtbot: QtBot, tmp_path: Path) -> None:
    made = dialog(qtbot, tmp_path, "last", "best")
    words = [made.weights.itemText(i) for i in range(made.weights.count())]
    assert words == ["last: 95.1 % on the test part", "best on validation: 95.3 % on the test part"]
    assert dialog(qtbot, tmp_path / "none").weights.count() == 0


def test_another_format_changes_the_suffix_and_is_remembered(qtbot: QtBot, tmp_path: Path) -> None:
    made = dialog(qtbot, tmp_path, "last")
    assert made.format.currentData() == "safetensors"
    made.format.setCurrentIndex(made.format.findData("pt2"))
    assert made.path.text().endswith(".pt2")
    made.path.setText(str(tmp_path / "student.pt2"))
    with qtbot.waitSignal(made.wanted) as told:
        qtbot.mouseClick(made.save, Qt.MouseButton.LeftButton)
    assert told.args == ["pt2", str(tmp_path / "student.pt2"), "last"]
    assert dialog(qtbot, tmp_path, "last").format.currentData() == "pt2"


def test_a_folder_that_is_not_there_is_told_before_anything_is_asked(qtbot: QtBot, tmp_path: Path) -> None:
    made = dialog(qtbot, tmp_path, "last")
    made.path.setText(str(tmp_path / "no" / "student.pt2"))
    with qtbot.assertNotEmitted(made.wanted):
        qtbot.mouseClick(made.save, Qt.MouseButton.LeftButton)
    assert "no folder" in made.message.text()
    assert made.save.isEnabled()


def test_after_a_refusal_the_file_can_be_saved_elsewhere(qtbot: QtBot, tmp_path: Path) -> None:
    made = dialog(qtbot, tmp_path, "last")
    made.path.setText(str(tmp_path / "a.safetensors"))
    qtbot.mouseClick(made.save, Qt.MouseButton.LeftButton)
    assert not made.save.isEnabled()
    made.failed("The disk is full.")
    assert made.message.text() == "The disk is full."
    with qtbot.waitSignal(made.wanted):
        qtbot.mouseClick(made.save, Qt.MouseButton.LeftButton)
    made.saved({"path": "a", "card_path": "a.md", "bytes": 319_640, "code": "one\ntwo\nthree"})
    assert made.message.text() == "Saved · 320 kB · a"
    assert made.code.isVisible()
    assert made.show_folder.isVisible()


def test_a_proposed_name_does_not_overwrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(
        "kd_gui.views.export_dialog.QStandardPaths.writableLocation", lambda _place: str(tmp_path / "none")
    )
    assert proposed_path("Digits: 10 labels", ".pt2") == tmp_path / "digits-10-labels.pt2"
    (tmp_path / "digits-10-labels.pt2").touch()
    assert proposed_path("Digits: 10 labels", ".pt2") == tmp_path / "digits-10-labels-2.pt2"


# ---- words


@pytest.mark.parametrize(
    ("summary", "line"),
    [
        (
            {"retention": 0.971, "size_ratio": 12.2, "gain": 0.033, "students": {"student": {}, "no KD": {}}},
            "Student keeps 97.1 % of the teacher at 1/12 the size, +3.3 points over no KD",
        ),
        (
            {"retention": 0.9, "size_ratio": 3.46, "gain": -0.0125, "students": {"student": {}, "T = 1": {}}},
            "Student keeps 90.0 % of the teacher at 1/3.5 the size, −1.2 points over T = 1",
        ),
        ({"retention": 1.01, "size_ratio": 1.0}, "Student keeps 101.0 % of the teacher at the same size"),
        ({"students": {"student": {"top1_test_last": 0.8}}}, "Trained: 80.0 % on the test part"),
        ({}, "Trained"),
    ],
)
def test_a_run_is_worth_what_its_summary_says(summary: dict[str, Any], line: str) -> None:
    assert wording.done_line(summary) == line


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(12.2, "1/12 the size"), (2.0, "1/2 the size"), (1.5, "67 % of the size"), (0.5, "2.0 times the size")],
)
def test_sizes_are_told_honestly(ratio: float, words: str) -> None:
    assert wording.size_words(ratio) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(14.2, "0:14"), (725, "12:05"), (3723, "1:02:03"), (-1, "0:00")]
)
def test_durations(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words


def test_a_step_of_preparing_is_named_even_when_it_is_new() -> None:
    assert (
        wording.preparing(Preparing(what="data", detail="digits", fraction=0.4))
        == "reading the data: digits (40 %)"
    )
    assert wording.preparing(Preparing(what="quantize")) == "quantize"
    assert wording.preparing(None) == "getting ready"

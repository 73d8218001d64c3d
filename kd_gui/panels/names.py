"""What curves are called and how they look: students, rivals, terms of a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QCoreApplication, Qt

from kd_engine.events import STUDENT
from kd_gui.plots.series import Series
from kd_gui.state.feed import Feed
from kd_gui.theme import series_style, term_style, theme

Paint = Callable[[str, int], tuple[str, Qt.PenStyle]]

FIRST = ("kd", "label", "at")  # the terms' order in a legend; others follow


@dataclass(frozen=True)
class Look:
    """A line's style as something that can be compared: looked up in today's tokens when it is called."""

    paint: Paint
    name: str
    index: int = 0

    def __call__(self) -> tuple[str, Qt.PenStyle]:
        return self.paint(self.name, self.index)


def student_title(feed: Feed, name: str) -> str:
    """The recipe's student is "distilled" where it learns from a teacher; a rival goes by its own name."""
    if name != STUDENT:
        return name
    distilled = feed.stage is not None and feed.stage.kind == "distill"
    if distilled:
        return QCoreApplication.translate("names", "distilled")
    return QCoreApplication.translate("names", "student")


def term_title(name: str) -> str:
    """A term in words where it has some, else by its own name, as a new method's."""
    words = {
        "kd": QCoreApplication.translate("names", "soft targets"),
        "label": QCoreApplication.translate("names", "labels"),
        "at": QCoreApplication.translate("names", "attention"),
        "fitnet": QCoreApplication.translate("names", "hints"),
        "hard-label": QCoreApplication.translate("names", "hard labels"),
    }
    return words.get(name, name.replace("_", " "))


def preparing_title(feed: Feed) -> str:
    """What the engine is busy with before the first step, in words."""
    words = {
        "data": QCoreApplication.translate("names", "Preparing the data …"),
        "teacher": QCoreApplication.translate("names", "Preparing the teacher …"),
        "student": QCoreApplication.translate("names", "Preparing the student …"),
        "teacher_answers": QCoreApplication.translate("names", "The teacher answers …"),
    }
    what = feed.preparing.what if feed.preparing is not None else ""
    return words.get(what, QCoreApplication.translate("names", "Preparing …"))


def student_series(feed: Feed, name: str) -> Series:
    return Series(name, student_title(feed, name), Look(series_style, name, _index(feed, name)))


def train_series() -> Series:
    """The thin companion of the student's validation curve."""
    title = QCoreApplication.translate("names", "on training pictures")
    return Series("train", title, Look(_dotted, STUDENT), thin=True, hidden=True)


def term_series(name: str, index: int) -> Series:
    return Series(name, term_title(name), Look(term_style, name, index))


def total_series() -> Series:
    """The sum that is minimised."""
    return Series(
        "total", QCoreApplication.translate("names", "total"), Look(_ink, ""), thin=True, hidden=True
    )


def rate_series() -> Series:
    return Series("lr", QCoreApplication.translate("names", "learning rate"), Look(_ink, ""))


def term_order(terms: list[str]) -> list[str]:
    return sorted(terms, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))


def _index(feed: Feed, name: str) -> int:
    """Which of the rivals it is."""
    rivals = [other for other in feed.students if other != STUDENT]
    return rivals.index(name) if name in rivals else 0


def _dotted(name: str, index: int) -> tuple[str, Qt.PenStyle]:
    return series_style(name, index)[0], Qt.PenStyle.DotLine


def _ink(_name: str, _index: int) -> tuple[str, Qt.PenStyle]:
    return theme().tokens.text, Qt.PenStyle.SolidLine

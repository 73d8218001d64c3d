"""The evaluation's figures in sentences: where they come from, what a cell says, how sure a model is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PySide6.QtCore import QCoreApplication

from kd_engine.events import STUDENT
from kd_gui.state.evaluation import Shown
from kd_gui.state.measures import Bins, Confusion, Figures
from kd_gui.state.wording import percent

EVEN = 0.005  # a calibration that is off by less is called right


def tr(text: str) -> str:
    return QCoreApplication.translate("evaluation", text)


def student_title(who: str) -> str:
    """In words, what is called NAME/WEIGHTS."""
    name, _, weights = who.rpartition("/")
    if name != STUDENT:
        return name
    return tr("student, best weights") if weights == "best" else tr("student, last weights")


def name(shown: Shown) -> str:
    """The compared one's, in a sentence."""
    return tr("student") if shown.ours else shown.who.rpartition("/")[0]


def short_title(who: str) -> str:
    """Where there is little room."""
    name, _, weights = who.rpartition("/")
    if name != STUDENT:
        return name
    return tr("best weights") if weights == "best" else tr("last weights")


def share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def points(value: float) -> str:
    """A difference of fractions in points, signed: "−8.3"."""
    return f"{100 * value:+.1f}".replace("-", "−") if abs(value) >= 0.0005 else "0.0"


def protocol(shown: Shown, told: Mapping[str, Any]) -> str:
    """Under the figures: which part, which weights, and what that is worth."""
    if shown.part == "validation":
        line = tr(
            "{count} images of the validation part, after epoch {epoch}: the best epoch is chosen on them."
        )
        return line.format(count=f"{shown.images:,}", epoch=shown.epoch)
    count = f"{shown.images:,}"
    if told and told.get("status") != "done":
        line = tr(
            "{count} images of the test part, weights of the latest checkpoint. The run has not ended: "
            "whoever steers it by these figures spends the test part."
        )
        return line.format(count=count)
    line = tr("{count} images of the test part, kept apart from training and choosing; {weights}.")
    weights = tr("best weights on validation") if shown.who.endswith("/best") else tr("last weights")
    said = line.format(count=count, weights=weights)
    if told:
        said += " " + tr("One run, seed {seed}.").format(seed=told.get("seed"))
    return said


def cell(
    classes: tuple[str, ...], row: int, column: int, matrices: list[tuple[str, Confusion | None]]
) -> str:
    """As in: 5 seen as 3: teacher 1 of 36 (3 %), student 4 of 36 (11 %). One model goes without its name."""
    same = row == column
    head = tr("{true} found") if same else tr("{true} seen as {named}")
    said = []
    for who, confusion in matrices:
        if confusion is None:
            continue
        count, support = int(confusion.counts[row, column]), int(confusion.support[row])
        part = tr("{count} of {support}").format(count=count, support=support)
        if support:
            part += f" ({100 * count / support:.0f} %)"
        said.append(f"{who} {part}" if len(matrices) > 1 else part)
    return f"{head.format(true=classes[row], named=classes[column])}: {', '.join(said)}"


def worst(classes: tuple[str, ...], matrices: list[tuple[str, Confusion | None]], most: int) -> list[str]:
    """What the last of the models mixes up most, in so many lines."""
    confusion = matrices[-1][1]
    if confusion is None:
        return []
    return [cell(classes, *found, matrices) for found in confusion.worst(most)]


def sureness(who: str, figures: Figures) -> str:
    """The calibration in a sentence: "student: too sure, by 1.5 points on average (ECE)"."""
    bins, ece = figures.bins, figures.ece
    if bins is None or ece is None:
        return tr("{who}: not measured").format(who=who)
    line = tr("{who}: {how}, off by {points} points on average (ECE)")
    return line.format(who=who, how=direction(bins, ece), points=f"{100 * ece:.1f}")


def direction(bins: Bins, ece: float) -> str:
    if abs(bins.too_sure) < max(EVEN, ece / 4):
        return tr("about as sure as it is right")
    return tr("too sure of itself") if bins.too_sure > 0 else tr("too modest")


def one_image(support: np.ndarray | None) -> str:
    """How coarse a class's recall is."""
    there = support[support > 0] if support is not None else np.array([])
    if not len(there):
        return ""
    low, high = int(there.min()), int(there.max())
    count = f"{low}" if low == high else f"{low}–{high}"
    line = tr("{count} images a class: one image is {points} points")
    if low < high:
        line = tr("{count} images a class: one image is up to {points} points")
    return line.format(count=count, points=f"{100 / low:.1f}")


def times(large: float | None, small: float | None) -> str:
    """As in ×3.5; a dash where one is unknown."""
    if not large or not small:
        return "–"
    ratio = large / small
    return f"×{ratio:.1f}" if ratio < 9.95 else f"×{ratio:.0f}"

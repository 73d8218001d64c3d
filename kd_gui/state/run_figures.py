"""What the table of runs says of one run: its figures, stored or so far, and their words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QCoreApplication

from kd_engine.events import STUDENT
from kd_engine.store import RunInfo
from kd_gui.state.feed import Feed
from kd_gui.state.race import standing

DOT, NAME, TEMPERATURE, BEST, RETENTION, SIZE, TIME = range(7)
COLUMNS = 7
UNKNOWN = "–"


@dataclass(frozen=True)
class Figures:
    """What the table shows of a run; None where unknown. tested: best is on test, else on validation."""

    temperature: float | None = None
    best: float | None = None
    tested: bool = False
    retention: float | None = None
    size: int | None = None
    seconds: float | None = None


def figures(info: RunInfo) -> Figures:
    """The figures of a stored run, from its summary."""
    summary = info.summary
    student = (summary.get("students") or {}).get(STUDENT) or {}
    best = student.get("top1_test_best", student.get("top1_test_last"))
    tested = best is not None
    temperature = summary.get("temperature", planned_temperature(info.recipe))
    return Figures(
        temperature=temperature,
        best=best if tested else student.get("top1_validation_best"),
        tested=tested,
        retention=summary.get("retention"),
        size=student.get("bytes"),
        seconds=info.seconds,
    )


def live_figures(feed: Feed) -> Figures:
    """The figures of the run that `feed` follows, so far: on validation."""
    best = feed.best(STUDENT)
    return Figures(
        temperature=feed.temperature,
        best=best.validation.get("top1") if best is not None else None,
        retention=standing(feed).retention,
        seconds=float(int(feed.seconds)),
    )


def planned_temperature(recipe: Mapping[str, Any]) -> float | None:
    """The first temperature that a recipe names, None where there is none."""
    methods = [m for stage in recipe.get("stages", ()) for m in stage.get("methods", ())]
    return next((m["temperature"] for m in methods if m.get("temperature") is not None), None)


def sort_key(info: RunInfo, shown: Figures, column: int) -> float | str | None:
    """What to sort by; None where a figure is unknown."""
    keys: dict[int, float | str | None] = {
        DOT: info.status,
        NAME: info.title.casefold(),
        TEMPERATURE: shown.temperature,
        BEST: shown.best,
        RETENTION: shown.retention,
        SIZE: shown.size,
        TIME: shown.seconds,
    }
    return keys[column]


def cell(info: RunInfo, shown: Figures, column: int, live: bool) -> str:
    """A cell's words."""
    if column == DOT:
        return ""
    if column == NAME:
        return (
            QCoreApplication.translate("runs", "{name} · live").format(name=info.title)
            if live
            else info.title
        )
    if column == TEMPERATURE and shown.temperature is not None:
        return f"{shown.temperature:g}"
    if column == BEST and shown.best is not None:
        return f"{100 * shown.best:.1f}"
    if column == RETENTION and shown.retention is not None:
        return f"{100 * shown.retention:.1f} %"
    if column == SIZE and shown.size is not None:
        return size(shown.size)
    if column == TIME and shown.seconds is not None:
        return duration(shown.seconds)
    return UNKNOWN


def tooltip(info: RunInfo, shown: Figures, column: int, live: bool) -> str:
    if column == BEST and shown.best is not None:
        return (
            QCoreApplication.translate("runs", "on the test part")
            if shown.tested
            else QCoreApplication.translate("runs", "on validation, so far the best")
        )
    if column == RETENTION and shown.retention is not None:
        return QCoreApplication.translate("runs", "the student's accuracy over the teacher's")
    if column == SIZE and shown.size is not None:
        return QCoreApplication.translate("runs", "the student's weights on disk")
    return f"{info.name}\n{status(info, live)}"


def status(info: RunInfo, live: bool) -> str:
    """How a run stands, in words."""
    if live:
        return QCoreApplication.translate("runs", "running now")
    words = {
        "done": QCoreApplication.translate("runs", "done"),
        "running": QCoreApplication.translate("runs", "running in another process"),
        "stopped": QCoreApplication.translate("runs", "stopped, can go on"),
        "failed": QCoreApplication.translate("runs", "failed"),
        "interrupted": QCoreApplication.translate("runs", "interrupted"),
    }
    if info.status == "interrupted" and info.resumable:
        return QCoreApplication.translate("runs", "interrupted, can go on")
    return words.get(info.status, info.status)


def size(count: float) -> str:
    """Bytes in words: "305 kB"."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.0f} {unit}" if count >= 100 or unit == "kB" else f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} GB"


def duration(seconds: float) -> str:
    """Minutes and seconds, or hours: "1:12", "2:03:10"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

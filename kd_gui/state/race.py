"""Who leads: the distilled student beside its rivals, and how much of the teacher it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kd_engine.events import STUDENT
from kd_gui.state.feed import Feed


@dataclass(frozen=True)
class Standing:
    """All fractions. part: where the numbers come from: validation at the last epoch while a run goes on,
    test with the last weights once every student and the teacher were measured there.

    rows: (student's name, top-1 or None), the recipe's own first. retention: its share of the teacher's;
    gain: over the first rival, negative when the rival leads; rival: that rival's name. None where a number
    is missing.
    """

    part: Literal["validation", "test"]
    rows: tuple[tuple[str, float | None], ...]
    teacher: float | None
    retention: float | None
    gain: float | None
    rival: str | None


def standing(feed: Feed) -> Standing:
    """How the race stands now. Never mixes numbers of the validation and of the test part."""
    names = feed.students
    test = {name: _test(feed, name) for name in names}
    teacher_test = _teacher_test(feed)
    final = bool(names) and all(value is not None for value in test.values())
    if final and (teacher_test is not None or feed.teacher is None):
        return _stand("test", test, teacher_test)
    seen = {name: _validation(feed, name) for name in names}
    return _stand("validation", seen, feed.teacher.top1 if feed.teacher else None)


def _stand(
    part: Literal["validation", "test"], top1: dict[str, float | None], teacher: float | None
) -> Standing:
    ours = top1.get(STUDENT)
    rival = next((name for name in top1 if name != STUDENT), None)
    theirs = top1.get(rival) if rival is not None else None
    retention = ours / teacher if ours is not None and teacher else None
    gain = ours - theirs if ours is not None and theirs is not None else None
    return Standing(part, tuple(top1.items()), teacher, retention, gain, rival)


def _validation(feed: Feed, name: str) -> float | None:
    last = feed.last(name)
    return last.validation.get("top1") if last is not None else None


def _test(feed: Feed, name: str) -> float | None:
    metrics = feed.evaluated.get((name, "last"))
    if metrics is not None and "top1" in metrics:
        return float(metrics["top1"])
    told = (feed.summary or {}).get("students", {}).get(name, {}).get("top1_test_last")
    return None if told is None else float(told)


def _teacher_test(feed: Feed) -> float | None:
    metrics = feed.evaluated.get(("teacher", "last")) or feed.evaluated.get(("teacher", "best"))
    if metrics is not None and "top1" in metrics:
        return float(metrics["top1"])
    told = (feed.summary or {}).get("teacher") or {}
    value = told.get("top1_test")
    if value is None and feed.teacher is not None:
        value = feed.teacher.top1_test
    return None if value is None else float(value)

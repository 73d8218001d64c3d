"""The figures that a run ends with: what summary.json holds, the closing line, and every figure in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kd_engine.events import STUDENT


def summarise(
    students: dict[str, dict[str, Any]], teacher: dict[str, Any] | None, facts: dict[str, Any]
) -> dict[str, Any]:
    """Put the final figures together. Accuracies are fractions on the test part, of the last weights.

    students: per name the keys of `Evaluated.metrics`, the recipe's own first. retention: the student's
    accuracy over the teacher's; gain: the student's minus the first rival's; size_ratio: the teacher's
    bytes over the student's. None where there is no teacher, or no rival.
    """
    student = students[STUDENT]
    rivals = [figures for name, figures in students.items() if name != STUDENT]
    top1 = student["top1_test_last"]
    teacher_top1 = teacher["top1_test"] if teacher else None
    return {
        **facts,
        "students": students,
        "teacher": teacher,
        "retention": top1 / teacher_top1 if teacher_top1 else None,
        "gain": top1 - rivals[0]["top1_test_last"] if rivals else None,
        "size_ratio": teacher["bytes"] / student["bytes"] if teacher else None,
    }


def closing_line(summary: dict[str, Any]) -> str:
    """One line that tells what came of it, honest when negative."""
    student = summary["students"][STUDENT]
    line = f"Student: {student['top1_test_last']:.1%} on the test part"
    if summary["retention"] is not None:
        line += f", keeps {summary['retention']:.1%} of the teacher at 1/{summary['size_ratio']:.1f} the size"
    if summary["gain"] is not None:
        rival = next(name for name in summary["students"] if name != STUDENT)
        line += f", {summary['gain'] * 100:+.1f} points over {rival}"
    return line + "."


def percent(share: float) -> str:
    return f"{share:.1%}"


def count(number: float) -> str:
    return f"{number:,.0f}"


def many(number: float) -> str:
    """A large number with three digits: 12.5 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def size(number: float) -> str:
    return f"{many(number)}B"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
    )


# Every figure that people are told, in the order in which they are: its name for them, and how it is written.
FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "top1": ("accuracy (top-1)", lambda share: f"{share:.2%}"),
    "top5": ("top-5", lambda share: f"{share:.2%}"),
    "nll": ("loss (nats a sample)", lambda nats: f"{nats:.4f}"),
    "agreement": ("same answer as the teacher", lambda share: f"{share:.2%}"),
    "kl": ("distance to the teacher (KL, nats)", lambda nats: f"{nats:.4f}"),
    "retention": ("share of the teacher's accuracy", lambda share: f"{share:.2%}"),
    "parameters": ("parameters", count),
    "macs": ("multiply-adds an image", many),
    "bytes": ("weights on disk", size),
    "latency_ms_p50": ("one image takes (median)", lambda ms: f"{ms:.3g} ms"),
    "latency_ms_p95": ("one image takes (95th percentile)", lambda ms: f"{ms:.3g} ms"),
}

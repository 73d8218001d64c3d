"""The figures that a run ends with: what summary.json holds, what the table of runs shows, and the closing
line."""

from __future__ import annotations

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

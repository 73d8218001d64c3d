"""The figures that a run ends with: what summary.json holds, the closing line, and every figure in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kd_engine.events import STUDENT


def summarise(
    students: dict[str, dict[str, Any]], teacher: dict[str, Any] | None, facts: dict[str, Any]
) -> dict[str, Any]:
    """Put the final figures together. Accuracies are fractions on the test part, of the last weights.

    students: per name the keys of `Evaluated.metrics`, the recipe's own first. retention: the student's
    accuracy over the teacher's; gain: the student's minus that of `rival`, the first who is not a peer;
    size_ratio: the teacher's bytes over the student's. None where there is no teacher, or no rival.
    """
    student = students[STUDENT]
    rival = next(
        (name for name, figures in students.items() if name != STUDENT and not figures.get("peer")), None
    )
    top1 = student["top1_test_last"]
    teacher_top1 = teacher["top1_test"] if teacher else None
    return {
        **facts,
        "students": students,
        "teacher": teacher,
        "retention": top1 / teacher_top1 if teacher_top1 else None,
        "gain": top1 - students[rival]["top1_test_last"] if rival else None,
        "rival": rival,
        "size_ratio": teacher["bytes"] / student["bytes"] if teacher else None,
    }


def closing_line(summary: dict[str, Any]) -> str:
    """One line that tells what came of it, honest when negative."""
    student = summary["students"][STUDENT]
    line = f"Student: {student['top1_test_last']:.1%} on the test part"
    if summary["retention"] is not None:
        line += f", keeps {summary['retention']:.1%} of the teacher at 1/{summary['size_ratio']:.1f} the size"
    if summary["gain"] is not None:
        line += f", {summary['gain'] * 100:+.1f} points over {summary['rival']}"
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


class Figure(NamedTuple):
    """A figure for people. label: its name; written: how its value is; section: of the table it stands in."""

    label: str
    written: Callable[[float], str]
    section: str


def _accuracy(label: str, section: str = "Accuracy") -> Figure:
    return Figure(label, lambda share: f"{share:.2%}", section)


TEACHER, ROBUST, COST = "Closeness to the teacher", "Accuracy on corrupted images", "Cost"

# Every figure that people are told, in the order in which they are. A dot leads into a nested one.
FIGURES: dict[str, Figure] = {
    "top1": _accuracy("accuracy (top-1)"),
    "top5": _accuracy("top-5"),
    "macro.precision": _accuracy("precision, mean over classes"),
    "macro.recall": _accuracy("recall, mean over classes"),
    "macro.f1": _accuracy("F1, mean over classes"),
    "nll": Figure("loss (nats a sample)", lambda nats: f"{nats:.4f}", "Accuracy"),
    "ece": _accuracy("calibration error"),
    "agreement": _accuracy("same answer as the teacher", TEACHER),
    "kl": Figure("distance to the teacher (KL, nats)", lambda nats: f"{nats:.4f}", TEACHER),
    "retention": _accuracy("share of the teacher's accuracy", TEACHER),
    "top1_noise": _accuracy("with noise", ROBUST),
    "top1_blur": _accuracy("blurred", ROBUST),
    "top1_contrast": _accuracy("with less contrast", ROBUST),
    "top1_jpeg": _accuracy("after JPEG compression", ROBUST),
    "top1_corrupted": _accuracy("mean of these", ROBUST),
    "parameters": Figure("parameters", count, COST),
    "macs": Figure("multiply-adds an image", many, COST),
    "bytes": Figure("weights on disk", size, COST),
    "latency_ms_p50": Figure("one image takes (median)", lambda ms: f"{ms:.3g} ms", COST),
    "latency_ms_p95": Figure("one image takes (95th percentile)", lambda ms: f"{ms:.3g} ms", COST),
    "batch": Figure("images at once, for the next two", count, COST),
    "images_per_s": Figure("images a second", count, COST),
    "memory_bytes": Figure("working memory, beyond the weights", size, COST),
    "energy_j_per_1000": Figure("energy of 1,000 images", lambda joules: f"{joules:.3g} J", COST),
}


def figure(metrics: Mapping[str, Any], name: str) -> float | None:
    """The value of one of FIGURES in a model's metrics; None where it was not measured, or is no number."""
    value: Any = metrics
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None

"""The engine's codes and numbers in sentences: what the top bar, the status line and notices say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QCoreApplication

from kd_engine.events import Notice, Preparing


def tr(text: str) -> str:
    return QCoreApplication.translate("wording", text)


def done_line(summary: Mapping[str, Any]) -> str:
    """What a finished run is worth: "Student keeps 97.1 % of the teacher at 1/12 the size, +3.3 points over
    no KD"."""
    said = []
    retention, ratio, gain = summary.get("retention"), summary.get("size_ratio"), summary.get("gain")
    if retention is not None and ratio:
        line = tr("Student keeps {share} of the teacher at {size}")
        said.append(line.format(share=percent(retention), size=size_words(ratio)))
    elif retention is not None:
        said.append(tr("Student keeps {share} of the teacher").format(share=percent(retention)))
    else:
        student = summary.get("students", {}).get("student", {})
        top1 = student.get("top1_test_last")
        said.append(
            tr("Trained")
            if top1 is None
            else tr("Trained: {top1} on the test part").format(top1=percent(top1))
        )
    if gain is not None:
        said.append(
            tr("{gain} points over {rival}").format(gain=signed(100 * gain), rival=first_rival(summary))
        )
    return ", ".join(said)


def first_rival(summary: Mapping[str, Any]) -> str:
    """The rival that the gain is measured against."""
    return next((name for name in summary.get("students", {}) if name != "student"), tr("no KD"))


def size_words(ratio: float) -> str:
    """`ratio` is teacher over student: "1/12 the size"; honest where the student is not smaller."""
    if ratio >= 1.95:
        return tr("1/{ratio} the size").format(
            ratio=f"{ratio:.1f}".rstrip("0").rstrip(".") if ratio < 10 else round(ratio)
        )
    if ratio > 1.05:
        return tr("{share} of the size").format(share=f"{100 / ratio:.0f} %")
    return (
        tr("the same size") if ratio > 0.95 else tr("{ratio} times the size").format(ratio=f"{1 / ratio:.1f}")
    )


def percent(share: float) -> str:
    """A fraction in percent, with one figure behind the point."""
    return f"{100 * share:.1f} %"


def signed(points: float) -> str:
    """With its sign, and a true minus."""
    return f"{points:+.1f}".replace("-", "−")


def duration(seconds: float) -> str:
    """0:14, 12:05, 1:02:03."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def time_left(seconds: float) -> str:
    return tr("{time} left").format(time=duration(seconds))


def preparing(event: Preparing | None) -> str:
    """The named sub-step: "reading the data (40 %)"."""
    if event is None:
        return tr("getting ready")
    steps = {
        "data": tr("reading the data"),
        "download": tr("downloading"),
        "teacher": tr("waking the teacher"),
        "student": tr("making the student"),
        "teacher_answers": tr("asking the teacher"),
        "evaluate": tr("examining the models"),
    }
    words = steps.get(event.what, event.what)
    if event.detail:
        words = f"{words}: {event.detail}"
    return words if event.fraction is None else f"{words} ({100 * event.fraction:.0f} %)"


def kept(notice: Notice) -> str:
    """What becomes of the teacher's answers, for the status line: how much comes from what was kept, or
    the sentence's first half. The rest is for a tooltip."""
    known = notice.values.get("known")
    if isinstance(known, (int, float)) and known > 0:
        return tr("teacher from cache {share}").format(share=f"{known:.0%}")
    said = notice.message.partition(":")[0].rstrip(".")
    return said[:1].lower() + said[1:]


def nan_line(step: int, rate: float | None) -> str:
    if rate is None:
        return tr("Loss became NaN at step {step}.").format(step=step)
    line = tr("Loss became NaN at step {step}; lr {rate} is likely too high.")
    return line.format(step=step, rate=f"{rate:g}")


def interrupted_line(title: str, epoch: int | None, epochs: int) -> str:
    if epoch is None:
        return tr("{title} was interrupted.").format(title=title)
    return tr("{title} was interrupted after epoch {epoch} of {epochs}.").format(
        title=title, epoch=epoch, epochs=epochs
    )

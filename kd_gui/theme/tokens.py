"""The window's colours, by what they mean: one accent per meaning, three weights of ink, light and dark."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import Qt


@dataclass(frozen=True)
class Tokens:
    """Colours as "#RRGGBB". on_student: ink on a fill of `student`; hover: `field` under the pointer."""

    ground: str
    surface: str
    line: str
    text: str
    muted: str
    faint: str
    teacher: str
    student: str
    rival: str
    good: str
    field: str
    warn: str
    bad: str
    hover: str
    on_student: str
    dark: bool


LIGHT = Tokens(
    ground="#F4F4F1",
    surface="#FFFFFF",
    line="#E2E2DC",
    text="#1B1D20",
    muted="#666B73",
    faint="#A4A8AE",
    teacher="#0072B2",
    student="#D55E00",
    rival="#8A8F98",
    good="#0B8A5F",
    field="#F4F4F1",
    warn="#946200",
    bad="#C4314B",
    hover="#ECECE7",
    on_student="#FFFFFF",
    dark=False,
)

DARK = Tokens(
    ground="#15171A",
    surface="#1C1F23",
    line="#2B2F35",
    text="#E9EAEC",
    muted="#9BA1A9",
    faint="#5E646C",
    teacher="#6CB6EE",
    student="#F59B42",
    rival="#8A9099",
    good="#4CC38A",
    field="#24282D",
    warn="#E3B341",
    bad="#FF7A8A",
    hover="#2D3238",
    on_student="#1D1306",
    dark=True,
)

_DASHES = (Qt.PenStyle.DashLine, Qt.PenStyle.DotLine, Qt.PenStyle.DashDotLine, Qt.PenStyle.DashDotDotLine)
_STUDENT = ("student", "distilled", "total", "kd", "soft targets")
_TEACHER = ("teacher",)
_LABEL = ("label", "labels", "label_loss")
_ATTENTION = ("at", "attention")


def series_style(name: str, index: int = 0, tokens: Tokens = LIGHT) -> tuple[str, Qt.PenStyle]:
    """The colour and dash of a curve, so that colour is never the only cue.

    name: a student ("student", or a rival's name), "teacher", or a loss term ("kd", "label", "at", ...).
    index: tells apart several that share a role (the second rival gets another dash).
    """
    if name in _STUDENT:
        return tokens.student, Qt.PenStyle.SolidLine
    if name in _TEACHER or name in _LABEL:
        return tokens.teacher, Qt.PenStyle.DashLine
    if name in _ATTENTION:
        return tokens.good, Qt.PenStyle.DotLine
    return tokens.rival, _DASHES[index % len(_DASHES)]


def term_style(name: str, index: int = 0, tokens: Tokens = LIGHT) -> tuple[str, Qt.PenStyle]:
    """As `series_style`, for the terms of a student's loss: those without their own role are `good`."""
    color, dash = series_style(name, index, tokens)
    if color == tokens.rival:
        return tokens.good, _DASHES[(index + 1) % len(_DASHES)]
    return color, dash

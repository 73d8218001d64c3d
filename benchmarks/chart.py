"""Small charts as SVG text: values with their intervals, and lines. No dependency, sharp at any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

INK, FAINT, STUDENT, RIVAL, TEACHER = "#1B1D20", "#C9C9C4", "#D55E00", "#8A8F98", "#0072B2"
PALETTE = (STUDENT, TEACHER, "#0B8A5F", "#CC79A7", "#E69F00", "#56B4E9", "#6A4C93", "#A3333D", "#5E646C")
DASHES = ("", "6 3", "2 3")
ROW = 20  # pixels


@dataclass(frozen=True)
class Bar:
    """A value with its interval (None where there is none); `strong` ones are drawn in the student's
    colour."""

    name: str
    value: float
    interval: tuple[float, float] | None
    strong: bool


def intervals(bars: Sequence[Bar], title: str, unit: str, width: int = 720) -> str:
    """One row for each: a dot, and a line for its interval, around a line at zero."""
    ends = [end for bar in bars for end in (bar.value, *(bar.interval or ()))]
    low, high = min(0.0, *ends), max(0.0, *ends)
    left, right, top = 150, width - 70, 44
    scale = (right - left) / ((high - low) or 1)
    height = top + ROW * len(bars) + 16

    def x(value: float) -> float:
        return left + (value - low) * scale

    drawn = [_text(12, 22, title, size=14, weight="600"), _line(x(0), top - 8, x(0), height - 10, FAINT)]
    for i, bar in enumerate(bars):
        y, color = top + ROW * i + 8, STUDENT if bar.strong else RIVAL
        drawn.append(_text(left - 10, y + 4, bar.name, anchor="end"))
        if bar.interval is not None:
            drawn.append(_line(x(bar.interval[0]), y, x(bar.interval[1]), y, color, 2))
        drawn.append(f'<circle cx="{x(bar.value):.1f}" cy="{y}" r="4" fill="{color}"/>')
        drawn.append(_text(width - 12, y + 4, f"{bar.value:+.1f}{unit}", anchor="end"))
    return _svg(width, height, drawn)


def lines(
    series: Mapping[str, Sequence[float]], title: str, across: str, width: int = 720, height: int = 380
) -> str:
    """One line for each name over 1, 2, 3 ..., with the names at the right, in the order of their ends."""
    left, right, top, bottom = 48, width - 150, 40, height - 40
    values = [value for line in series.values() for value in line]
    low, high = min(values), max(values)
    most = max(len(line) for line in series.values())

    def place(i: int, value: float) -> tuple[float, float]:
        return (
            left + (right - left) * i / max(most - 1, 1),
            bottom - (bottom - top) * (value - low) / ((high - low) or 1),
        )

    drawn = [_text(12, 22, title, size=14, weight="600")]
    drawn.append(_text((left + right) / 2, height - 8, across, "middle"))
    for k in range(5):
        value = low + (high - low) * k / 4
        _, y = place(0, value)
        drawn += [_line(left, y, right, y, FAINT), _text(left - 6, y + 4, f"{value:.0f}", "end")]
    drawn += [_text(place(i, low)[0], bottom + 16, str(i + 1), "middle") for i in range(most)]
    taken = bottom + 14.0
    for name in sorted(series, key=lambda name: series[name][-1]):
        k = list(series).index(name)
        color, dash = PALETTE[k % len(PALETTE)], DASHES[k // len(PALETTE) % len(DASHES)]
        points = " ".join("{:.1f},{:.1f}".format(*place(i, value)) for i, value in enumerate(series[name]))
        style = f'stroke-dasharray="{dash}"' if dash else ""
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2" {style}/>')
        end = place(len(series[name]) - 1, series[name][-1])[1]
        taken = min(end, taken - 14)  # names keep a distance of one line
        drawn.append(_text(right + 8, taken + 4, f"{name} {series[name][-1]:.1f}", color=color))
    return _svg(width, height, drawn)


def _svg(width: int, height: int, drawn: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
    ground = f'<rect width="{width}" height="{height}" fill="#FFFFFF"/>'
    return "\n".join((head, ground, *drawn, "</svg>")) + "\n"


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = "start",
    size: int = 12,
    weight: str = "400",
    color: str = INK,
) -> str:
    font = f'font-family="system-ui, sans-serif" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" {font}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str, wide: int = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{color}" stroke-width="{wide}"/>'

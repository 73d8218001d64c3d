"""The pictures beside the page: how much of what is allowed each figure takes, and how costs grow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmarks.chart import FAINT, INK, PALETTE, RIVAL, ROW, STUDENT, _line, _svg, _text
from benchmarks.figures import MISSED, Figure, number
from benchmarks.ledger import Entry

WIDTH, LEFT, RIGHT, TOP = 760, 350, 600, 62
MOST = 1.5  # of what is allowed: what is over that is drawn there
PANEL = 264
REACHED = "#0B8A5F"


def results(entries: Mapping[str, Entry]) -> str:
    """One row for each figure with a bound, as a share of the bound that it must keep: left of the line is
    good. A tick stands at the aim. Cases of one figure are one row, drawn from the best to the worst."""
    rows: dict[str, list[Figure]] = {}
    for entry in entries.values():
        for figure in entry.figures:
            if figure.kept and figure.must is not None:
                rows.setdefault(figure.name, []).append(figure)
    height = TOP + ROW * len(rows) + 14
    drawn = [
        _text(12, 22, "What it costs, of what it may cost", size=14, weight="600"),
        _text(
            12,
            42,
            "dot: the worst case, line: all cases; green tick: the aim; right of 100 % is too much",
            color=RIVAL,
        ),
        *(
            _line(_x(share), TOP - 6, _x(share), height - 10, INK if share == 1 else FAINT)
            for share in (0, 0.5, 1)
        ),
        *(_text(_x(share), TOP - 8, f"{share:.0%}", "middle", size=10, color=RIVAL) for share in (0, 0.5, 1)),
    ]
    for i, (name, found) in enumerate(rows.items()):
        drawn += _row(name, found, TOP + ROW * i + 8)
    return _svg(WIDTH, height, drawn)


def _row(name: str, found: Sequence[Figure], y: float) -> list[str]:
    ordered = sorted(found, key=share)
    best, worst = ordered[0], ordered[-1]
    color = STUDENT if worst.kept == MISSED else INK
    drawn = [_text(LEFT - 10, y + 4, name, "end"), _line(_x(share(best)), y, _x(share(worst)), y, color, 2)]
    if worst.aim is not None and worst.must is not None:
        aim = _x(_share(worst.aim, worst.must, worst.better == "less"))
        drawn.append(_line(aim, y - 6, aim, y + 6, REACHED, 2))
    drawn.append(f'<circle cx="{_x(share(worst)):.1f}" cy="{y}" r="4" fill="{color}"/>')
    ends = list(dict.fromkeys(number(figure.value or 0.0) for figure in (best, worst)))
    gap = "" if worst.unit in ("×", "") else " "
    drawn.append(_text(WIDTH - 12, y + 4, f"{' … '.join(ends)}{gap}{worst.unit}", "end"))
    return drawn


def share(figure: Figure) -> float:
    """Of what is allowed that the figure takes: 1 is the bound, less is better, whichever way it is meant."""
    assert figure.value is not None
    assert figure.must is not None
    return _share(figure.value, figure.must, figure.better == "less")


def _share(value: float, bound: float, less: bool) -> float:
    part = value / bound if less else bound / max(value, 1e-12)
    return part if math.isfinite(part) else MOST


def _x(part: float) -> float:
    return LEFT + (RIGHT - LEFT) * min(part, MOST) / MOST


def growth(entries: Mapping[str, Entry]) -> str | None:
    """Each curve beside proportion, in a panel of its own, both axes logarithmic; None without curves."""
    curves = [figure for entry in entries.values() for figure in entry.figures if len(figure.points) > 1]
    if not curves:
        return None
    drawn = [_text(12, 22, "How cost grows: measured, and in proportion (grey)", size=14, weight="600")]
    for i, figure in enumerate(curves):
        drawn += _panel(figure, PANEL * i, PALETTE[i % len(PALETTE)])
    return _svg(PANEL * len(curves), PANEL + 40, drawn)


def _panel(figure: Figure, left: float, color: str) -> list[str]:
    (x0, y0), (x1, y1) = figure.points[0], figure.points[-1]
    widest, highest = max(x1 / x0, 1.001), max(x1 / x0, y1 / y0, 1.001)
    first, last, base, top = left + 44, left + PANEL - 24, float(PANEL - 4), 70.0

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = math.log(x / x0) / math.log(widest), math.log(max(y / y0, 1.0)) / math.log(highest)
        return first + (last - first) * across, base - (base - top) * up

    drawn = [_text(left + 12, 50, figure.name, weight="600")]
    drawn += [_line(first, base, last, base, FAINT), _line(first, base, *place(x1, y0 * x1 / x0), RIVAL)]
    drawn += [_text(place(x, y0)[0], base + 18, f"{x:,.0f}", "middle", size=10) for x, _ in figure.points]
    drawn += [
        _text(place(x, y)[0] - 6, place(x, y)[1] - 8, f"{number(y / y0)}×", "middle", size=10)
        for x, y in figure.points[1:]
    ]
    points = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in figure.points)
    drawn.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
    for x, y in figure.points:
        across, up = place(x, y)
        drawn.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" fill="{color}"/>')
    return drawn

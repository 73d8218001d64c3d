"""`RESULTS.md`: every figure beside its bounds, where and when it was measured, and what is not met."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.figures import AIM, MISSED, MUST, Figure, written
from benchmarks.ledger import Entry

HEAD = """# What it costs

Written by `make bench` (`python -m benchmarks`), which runs every module of this folder in a process of its
own, one after the other; `python -m benchmarks --only NAME` repeats one of them. A figure is the median over
repeats, with its quartiles in brackets. × are ratios of two things that were timed beside each other in one
run; the loops that are compared are in [loops.py](loops.py), and what each figure is stands at the head of
its module.
"""
SMALL = "**In small sizes: these figures show that the module works, and mean nothing.**"
SAID = {AIM: "yes, the aim too", MUST: "yes", MISSED: "**no**"}


def page(entries: Mapping[str, Entry], pictures: Iterable[str] = ()) -> str:
    """The whole page. pictures: files beside it."""
    parts = [HEAD, _summary(entries)]
    parts += [f"![{name.removesuffix('.svg')}]({name})\n" for name in pictures]
    parts += [_machines(entries)]
    parts += [_section(name, entry) for name, entry in entries.items()]
    return "\n".join(parts)


def _summary(entries: Mapping[str, Entry]) -> str:
    """How many bounds are kept, and which are not."""
    found = [(name, figure) for name, entry in entries.items() for figure in entry.figures]
    bound = [(name, figure) for name, figure in found if figure.kept]
    missed = [(name, figure) for name, figure in bound if figure.kept == MISSED]
    aims = [figure for _, figure in bound if figure.aim is not None]
    reached = sum(figure.kept == AIM for figure in aims)
    lines = [
        f"{len(bound) - len(missed)} of {len(bound)} bounds are kept, {reached} of {len(aims)} aims reached."
    ]
    if missed:
        lines += ["", "Not kept:", ""]
        lines += [
            f"- {named(figure)} (`{name}`): {written(figure)}, {bounds(figure)}" for name, figure in missed
        ]
    return "\n".join(lines) + "\n"


def _machines(entries: Mapping[str, Entry]) -> str:
    """Where and with what: once for all modules that have it in common."""
    places: dict[str, list[str]] = {}
    for name, entry in entries.items():
        places.setdefault(f"{entry.machine}; {entry.versions}", []).append(name)
    lines = [f"- {', '.join(f'`{name}`' for name in names)}: {place}" for place, names in places.items()]
    took = sum(entry.seconds for entry in entries.values())
    return "\n".join(["Measured on", "", *lines, "", f"Together they took {took / 60:.0f} minutes."]) + "\n"


def _section(name: str, entry: Entry) -> str:
    lines = [
        f"## {name}",
        "",
        f"`python -m benchmarks.{name}`, {entry.date}, {_duration(entry.seconds)}.",
        "",
    ]
    if entry.small:
        lines += [SMALL, ""]
    if entry.failed:
        lines += [f"**The last run broke off:** {entry.failed}", ""]
    if entry.figures:
        lines += ["| figure | of | measured | must | aim | met | |", "|---|---|---|---|---|---|---|"]
        lines += [_row(figure) for figure in entry.figures]
    return "\n".join(lines) + "\n"


def _row(figure: Figure) -> str:
    cells = (
        figure.name,
        figure.case,
        written(figure),
        bound(figure, figure.must),
        bound(figure, figure.aim),
        SAID.get(figure.kept, ""),
        figure.note,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def named(figure: Figure) -> str:
    return f"{figure.name}, {figure.case}" if figure.case else figure.name


def bounds(figure: Figure) -> str:
    said = [
        f"{word} {bound(figure, value)}"
        for word, value in (("must", figure.must), ("aim", figure.aim))
        if value is not None
    ]
    return ", ".join(said)


def bound(figure: Figure, value: float | None) -> str:
    """As `≤ 1.10×`; nothing where there is none."""
    if value is None:
        return ""
    gap, digits = ("", ".2f" if value < 2 else "g") if figure.unit in ("×", "") else (" ", "g")
    return f"{'≤' if figure.better == 'less' else '≥'} {value:{digits}}{gap}{figure.unit}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

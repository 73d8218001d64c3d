"""What a benchmark measured: figures with their spread and their bounds, and how they are handed over.

A module of this folder measures something, makes `Figure`s of it and calls `hand_over`, which prints them and
writes them to the file that `--json` names; `python -m benchmarks` gathers them in its ledger.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Better = Literal["less", "more"]
AIM, MUST, MISSED, OPEN = "aim", "must", "missed", ""  # which bound a figure keeps; OPEN: it has none


@dataclass(frozen=True)
class Figure:
    """One measured number. name: what it is, a row of the table; case: of which models, sizes or settings.

    value: None where it cannot be measured on this machine, and then `note` says why. low, high: quartiles
    over repeats. must, aim: the bounds, in the figure's unit. points: (x, y) of a curve that it sums up.
    """

    name: str
    value: float | None
    unit: str = "×"
    low: float | None = None
    high: float | None = None
    must: float | None = None
    aim: float | None = None
    better: Better = "less"
    case: str = ""
    note: str = ""
    points: tuple[tuple[float, float], ...] = ()

    @property
    def kept(self) -> str:
        """The harder bound that the value keeps: AIM, MUST, MISSED, or OPEN where it has no value or no
        bound."""
        if self.value is None or (self.must is None and self.aim is None):
            return OPEN
        if self.aim is not None and self._within(self.aim):
            return AIM
        return MUST if self.must is not None and self._within(self.must) else MISSED

    def _within(self, bound: float) -> bool:
        assert self.value is not None
        return self.value <= bound if self.better == "less" else self.value >= bound

    def __str__(self) -> str:
        """One line for people."""
        sign = "<=" if self.better == "less" else ">="
        bounds = [
            f"{word} {sign} {b:g}" for word, b in (("must", self.must), ("aim", self.aim)) if b is not None
        ]
        said = [f"{self.name}, {self.case}" if self.case else self.name, written(self)]
        return "  ".join([*said, *bounds, self.kept, self.note]).rstrip()


def over(name: str, values: Sequence[float], unit: str = "×", **more: object) -> Figure:
    """The median of repeats, with their quartiles. ValueError where there are none, or one is no number."""
    if not len(values) or not all(map(math.isfinite, values)):
        raise ValueError(f"{name}: no figure can be made of {list(values)}")
    plain = [float(value) for value in values]  # numpy's have no place in a file
    low, high = quartiles(plain)
    return Figure(name, statistics.median(plain), unit, low, high, **more)  # type: ignore[arg-type]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The middle half of the values lies between them."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def written(figure: Figure) -> str:
    """The value with its unit and spread, e.g. `1.05× (1.04–1.07)`."""
    if figure.value is None:
        return "not measurable here"
    gap = "" if figure.unit in ("×", "") else " "
    text = f"{number(figure.value)}{gap}{figure.unit}"
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return text
    return f"{text} ({number(figure.low)}–{number(figure.high)})"


def number(value: float) -> str:
    """Three digits that count, none beyond what is there: 0.034, 1.05, 12.3, 1,234."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:,.{max(0, min(3, 2 - math.floor(math.log10(abs(value)))))}f}"


def parser(about: str | None) -> argparse.ArgumentParser:
    """The options that every module has. about: its docstring."""
    made = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    made.add_argument(
        "--small", action="store_true", help="sizes that show whether it works; the figures mean nothing"
    )
    return made


def hand_over(figures: Iterable[Figure], file: Path | None) -> None:
    """Print the figures; write them to the file, where one was asked for."""
    made = list(figures)
    for figure in made:
        print(figure, flush=True)
    if file is not None:
        file.write_text(json.dumps([to_json(figure) for figure in made]), encoding="utf-8")


def read(file: Path) -> list[Figure]:
    """What a module handed over."""
    return [from_json(entry) for entry in json.loads(file.read_text(encoding="utf-8"))]


def to_json(figure: Figure) -> dict[str, object]:
    """Without what is as it is anyway."""
    return {
        key: value for key, value in asdict(figure).items() if value not in (None, "", ()) or key == "value"
    }


def from_json(entry: dict[str, object]) -> Figure:
    points = tuple((x, y) for x, y in entry.get("points", ()))  # type: ignore[attr-defined]
    return Figure(**{**entry, "points": points})  # type: ignore[arg-type]

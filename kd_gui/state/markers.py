"""Where live knobs changed, in words short enough to stand on a curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kd_engine.document import get_at
from kd_engine.events import KnobChanged

ONE_DRAG_S = 1.0  # changes of one knob that follow each other so closely are one movement of a hand

SHORT = {"temperature": "T", "label_weight": "labels", "lr": "lr"}


@dataclass(frozen=True)
class Marker:
    """A knob went from `old` to `new` after `step`, at `x` on the axis. `time`: of the last change."""

    x: float
    step: int
    path: str
    name: str
    old: Any
    new: Any
    time: float

    @property
    def text(self) -> str:
        return f"{self.name} {_short(self.old)} → {_short(self.new)}"


class Markers:
    """The changes of a run. A slider that is dragged makes many: they become one, where the drag began."""

    def __init__(self) -> None:
        self._all: list[Marker] = []

    def all(self) -> list[Marker]:
        """In order; a knob that was put back within one drag has left no marker."""
        return [marker for marker in self._all if marker.old != marker.new]

    def add(self, event: KnobChanged, x: float, document: Mapping[str, Any]) -> None:
        last = self._all[-1] if self._all else None
        if last is not None and last.path == event.path and _goes_on(last, event):
            self._all[-1] = Marker(last.x, last.step, last.path, last.name, last.old, event.new, event.time)
            return
        name = knob_name(event.path, document)
        self._all.append(Marker(x, event.step, event.path, name, event.old, event.new, event.time))

    def cut(self, step: int) -> None:
        """Forget what lies after `step`."""
        self._all = [marker for marker in self._all if marker.step <= step]


def _goes_on(last: Marker, event: KnobChanged) -> bool:
    """The same drag, or the same change told again after a resume."""
    return event.time - last.time <= ONE_DRAG_S or event.step == last.step


def knob_name(path: str, document: Mapping[str, Any]) -> str:
    """A dotted path of a recipe in a word or two: "T", "kd weight", "no KD: labels"."""
    parts = path.split(".")
    name = SHORT.get(parts[-1], parts[-1].replace("_", " "))
    if parts[-1] == "weight" and "methods" in parts:
        name = f"{_at(document, parts[:-1], 'method') or 'method'} weight"
    if "rivals" in parts:
        rival = _at(document, parts[: parts.index("rivals") + 2], "name")
        name = f"{rival or 'rival'}: {name}"
    return name


def _at(document: Mapping[str, Any], parts: list[str], name: str) -> str | None:
    try:
        return str(get_at(document, ".".join([*parts, name])))
    except (KeyError, IndexError, ValueError, TypeError):
        return None


def _short(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

"""Declare a setting once: the recipe check, the command line's help and the desktop's slider all read that
declaration.

A knob is a pydantic field made by `knob(...)` in a `Knobs` class. `knobs_of(cls)` turns it into plain
`Knob` values, which travel as JSON inside the catalog; `Knob.problem` is the one place that decides whether
a value is allowed.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from kd_engine.errors import Problem, did_you_mean, shown

LARGEST = 2**63  # of whole numbers: what arrays and generators can hold
Kind = Literal["float", "int", "bool", "choice", "text"]


@dataclass(frozen=True)
class Knob:
    """One setting as plain data.

    kind: which values it takes. low, high: inclusive limits, None for open. choices: for kind "choice".
    scale: how a slider should move ("log" with low 0 means: 0 at the very left, then decades). unit: what a
    number counts, for display. live: may change while a run is going. optional: null is a value too, and
    means what `help` says. advanced: hidden until asked for.
    """

    name: str
    kind: Kind
    default: Any
    label: str
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    scale: Literal["linear", "log"] = "linear"
    live: bool = False
    optional: bool = False
    advanced: bool = False

    def problem(self, value: Any) -> str | None:
        """Why `value` is not allowed, or None when it is. Never raises."""
        if value is None:
            return None if self.optional else f"got null, expected {self.expected()}"
        if not self._right_type(value):
            return f"got {shown(value)}, expected {self.expected()}"
        if self.kind == "choice" and value not in self.choices:
            return f"got {shown(value)}, expected {self.expected()}{did_you_mean(value, self.choices)}"
        if self.kind == "text" and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            return f"got {shown(value)}, expected a text that can be written down: half a character is in it"
        if self.kind in ("int", "float"):
            below = self.low is not None and value < self.low
            above = self.high is not None and value > self.high
            if (
                below
                or above
                or not (math.isfinite(value) if isinstance(value, float) else abs(value) < LARGEST)
            ):
                return f"got {shown(value)}, expected {self.expected()}"
        return None

    def expected(self) -> str:
        """The allowed values in words: "1 to 20", "one of sgd, adamw", "a whole number from 1"."""
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        if self.kind == "bool":
            return "true or false"
        if self.kind == "text":
            return "a text"
        noun = "a whole number" if self.kind == "int" else "a number"
        low, high = _short(self.low), _short(self.high)
        if low and high:
            span = f"{low} to {high}" if self.kind == "float" else f"{noun} from {low} to {high}"
        elif low:
            span = f"{noun} from {low}"
        else:
            span = f"{noun} up to {high}" if high else noun
        return span + (" or null" if self.optional else "")

    def parse(self, text: str) -> Any:
        """`text` from a command line as a value of this knob; an unreadable text comes back as it is, for
        `problem`."""
        plain = text.strip()
        if self.optional and plain.lower() in ("null", "none", ""):
            return None
        if self.kind == "bool" and plain.lower() in ("true", "false"):
            return plain.lower() == "true"
        if self.kind in ("int", "float"):
            try:
                return int(plain) if self.kind == "int" else float(plain)
            except ValueError:
                return text
        return text

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "choices": list(self.choices)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Knob:
        return cls(**{**data, "choices": tuple(data["choices"])})

    def _right_type(self, value: Any) -> bool:
        if self.kind == "bool":
            return isinstance(value, bool)
        if self.kind == "int":
            return isinstance(value, int) and not isinstance(value, bool)
        if self.kind == "float":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        return isinstance(value, str)


class Knobs(BaseModel):
    """The settings of one plug-in: frozen, and nothing unknown is accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def knob(
    default: Any,
    help: str,
    *,
    label: str = "",
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    scale: Literal["linear", "log"] = "linear",
    live: bool = False,
    advanced: bool = False,
) -> Any:
    """A field of a `Knobs` class. `...` as default makes it required; see `Knob` for the meaning of each
    argument."""
    extra: JsonDict = {"label": label, "unit": unit, "scale": scale, "live": live, "advanced": advanced}
    return Field(default, description=help, ge=low, le=high, json_schema_extra={"knob": extra})


def knobs_of(cls: type[Knobs]) -> tuple[Knob, ...]:
    """The knobs that a class declares, in order. Fields not made by `knob(...)` are structure, not
    settings: skipped."""
    return tuple(
        _describe(name, field) for name, field in cls.model_fields.items() if _meta(field) is not None
    )


def check_knobs(knobs: Sequence[Knob], values: Mapping[str, Any], path: str) -> list[Problem]:
    """Every problem of `values` against `knobs`: unknown names (with a suggestion), wrong types, values out
    of range."""
    known = {knob.name: knob for knob in knobs}
    where = f"{path}." if path else ""
    problems = []
    for name, value in values.items():
        if name not in known:
            problems.append(Problem(f"{where}{name}", f"no such setting{did_you_mean(name, known)}"))
        elif (why := known[name].problem(value)) is not None:
            problems.append(Problem(f"{where}{name}", why))
    for knob in knobs:
        if knob.name not in values and knob.default is None and not knob.optional:
            problems.append(Problem(f"{where}{knob.name}", f"missing, expected {knob.expected()}"))
    return problems


def _meta(field: FieldInfo) -> dict[str, Any] | None:
    extra = field.json_schema_extra
    return extra.get("knob") if isinstance(extra, dict) else None  # type: ignore[return-value]


def _describe(name: str, field: FieldInfo) -> Knob:
    meta = _meta(field) or {}
    kind, choices, optional = _kind(field.annotation)
    limits = {type(m).__name__.lower(): m for m in field.metadata}
    default = None if field.is_required() else field.default
    return Knob(
        name=name,
        kind=kind,
        default=default,
        label=meta["label"] or name.replace("_", " ").capitalize(),
        help=field.description or "",
        low=getattr(limits.get("ge"), "ge", None),
        high=getattr(limits.get("le"), "le", None),
        choices=choices,
        unit=meta["unit"],
        scale=meta["scale"],
        live=meta["live"],
        optional=optional,
        advanced=meta["advanced"],
    )


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...], bool]:
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        optional = len(members) < len(get_args(annotation))
        annotation = members[0]
    if get_origin(annotation) is Literal:
        return "choice", tuple(get_args(annotation)), optional
    kinds: dict[Any, Kind] = {float: "float", int: "int", bool: "bool", str: "text"}
    return kinds[annotation], (), optional


def _short(number: float | None) -> str:
    if number is None:
        return ""
    return f"{int(number)}" if float(number).is_integer() else f"{number:g}"

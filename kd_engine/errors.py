"""Errors that a person is meant to read: what is wrong, where, and the way out. Nothing here is a bug
report."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a request: `path` is where (dotted, as in `stages.0.epochs`), `message` what and
    the way out."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class KdError(Exception):
    """Base of every error that is told to the user without a traceback. `hint` is the way out, where there
    is one."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class RecipeError(KdError):
    """The request was wrong: all of its problems at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class DataError(KdError):
    """A dataset that cannot be had or used as asked."""


class WeightsError(KdError):
    """Weights that cannot be had, read, or fitted to the model."""


class StoreError(KdError):
    """The folder of runs cannot be read or written; what was written before is intact."""


class EngineDied(KdError):
    """The engine's own process ended unexpectedly."""


def shown(value: Any) -> str:
    """`value` as a message should quote it: as Python writes it, cut short, and without line breaks."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python refuses to write whole numbers of thousands of digits
        return "a very large number"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'kd'?)"`, or an empty string when nothing known is near `name`."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _short() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    short.maxlevel = 3
    return short


_SHORT = _short()

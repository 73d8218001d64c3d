"""What a run has told so far, as plain values: the end of an epoch, its teacher, how far it has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """The end of an epoch: `x` epochs of the whole run are done."""

    x: float
    step: int
    train: dict[str, float]
    validation: dict[str, float]
    best: bool


@dataclass(frozen=True)
class Teacher:
    """Fractions, None where unknown."""

    model: str
    parameters: int
    top1: float | None
    top1_test: float | None


@dataclass(frozen=True)
class Progress:
    """epoch: the one at work, from 1. eta: seconds left, None until it means something."""

    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps_total: int = 0
    fraction: float = 0.0
    eta: float | None = None

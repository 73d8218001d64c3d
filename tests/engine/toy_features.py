"""Toy features for the tests of methods that compare them: what two models say, what a method makes of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kd_engine.methods import Terms, create
from kd_engine.signals import Shapes, Signals

CLASSES = 3


def feature(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    """Normal numbers in float64, the same for the same seed."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def signals(*maps: Tensor, **others: Tensor) -> Signals:
    """What a model says: stage1, stage2 ... and whatever else, by name."""
    stages = {f"stage{k}": tensor for k, tensor in enumerate(maps, 1)}
    taps = {**stages, **others}
    n = len(next(iter(taps.values())))
    return Signals(torch.zeros(n, CLASSES), taps)


def shapes(**taps: tuple[int, ...]) -> Shapes:
    return Shapes(CLASSES, taps)


def terms(method: str, student: Signals, teacher: Signals, **knobs: object) -> Terms:
    """What a method says of two models, its parts drawn from a fixed seed and in the dtype of the taps."""
    torch.manual_seed(0)
    made = create(method, **knobs)
    made.prepare(student.shapes(), teacher.shapes())
    made.to(next(iter(student.taps.values())).dtype)
    result: Terms = made(student, teacher, torch.zeros(len(student.logits), dtype=torch.int64))
    return result


def single(said: Signals) -> Signals:
    """The same in float32, as in a run."""
    return Signals(said.logits, {name: tensor.float() for name, tensor in said.taps.items()})


def gradient(loss: Tensor, leaf: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(loss, leaf)
    return grad


def unit(vectors: np.ndarray) -> np.ndarray:
    """Each vector (..., D) divided by its length."""
    return vectors / np.sqrt((vectors**2).sum(-1, keepdims=True))

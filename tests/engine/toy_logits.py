"""What the tests of methods on logits share: draws, a float64 softmax and KL, and toy signals."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import settings
from torch import Tensor

from kd_engine.signals import Signals

QUICK = settings(max_examples=25, derandomize=True, deadline=None, database=None)


def draw(shape: tuple[int, ...], seed: int, scale: float = 3.0) -> Tensor:
    """Random logits, float64."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def draw_labels(samples: int, classes: int, seed: int) -> Tensor:
    return torch.randint(classes, (samples,), generator=torch.Generator().manual_seed(seed))


def log_softmax(z: np.ndarray) -> np.ndarray:
    shifted: np.ndarray = z - z.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(z))


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Σ p log(p / q) over the last axis."""
    return (p * np.log(p / q)).sum(-1)


def several(*teachers: Tensor) -> Signals:
    """What several teachers said, the first one in front."""
    members = tuple(Signals(logits) for logits in teachers)
    return Signals(teachers[0], members=members)

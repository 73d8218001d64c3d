"""What logits say at a temperature: probabilities, entropy, divergence, fast enough to follow a slider.

All in float64 and in nats. Plain numpy: no Qt, no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


def log_soften(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Log-probabilities (..., C) of logits (..., C) divided by `temperature` (> 0), without overflow."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True)))


def soften(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (..., C) of logits (..., C) at `temperature`: softmax(logits / T)."""
    return np.asarray(np.exp(log_soften(logits, temperature)))


def entropy(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Entropy (...) of the softened answer, nats: 0 for one certain class, log(C) for all alike."""
    logs = log_soften(logits, temperature)
    return np.asarray(-(np.exp(logs) * logs).sum(axis=-1))


def divergence(teacher: np.ndarray, student: np.ndarray, temperature: float) -> np.ndarray:
    """KL (...) from teacher to student, both logits (..., C), both softened at `temperature`. Nats,
    without T²."""
    said, heard = log_soften(teacher, temperature), log_soften(student, temperature)
    return np.asarray((np.exp(said) * (said - heard)).sum(axis=-1))


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """The cosine between two heatmaps of one shape, as the engine's probes define it; 0 when one is empty."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    # Sums rather than dot products: BLAS would wait for its other threads, which a training run keeps busy.
    lengths = math.sqrt(float((a * a).sum())) * math.sqrt(float((b * b).sum()))
    return float((a * b).sum()) / lengths if lengths > 0 else 0.0


def share_inside(heat: np.ndarray, mask: np.ndarray) -> float:
    """The share of the heat (H, W) that lies inside the mask (H, W), 0 to 1; 0 when there is no heat."""
    total = float(heat.sum(dtype=np.float64))
    return float((heat * mask).sum(dtype=np.float64)) / total if total > 0 else 0.0


@dataclass(frozen=True)
class SoftTargets:
    """What both models say about one picture at a temperature. Entropy and the like are the teacher's, or the
    student's where there is no teacher.

    classes: indices of the top classes, likeliest first. teacher, student: the probabilities of these;
    None for one that is not there (yet). ratio: first over second probability. rest: what all other
    classes get together. count: of all classes. teacher_says, student_says: each one's own first choice
    with its probability.
    """

    temperature: float
    classes: tuple[int, ...]
    teacher: np.ndarray | None
    student: np.ndarray | None
    entropy: float
    ratio: float
    rest: float
    kl: float | None
    count: int
    teacher_says: tuple[int, float] | None
    student_says: tuple[int, float] | None


def soft_targets(
    teacher: np.ndarray | None, student: np.ndarray | None, temperature: float, top: int = 5
) -> SoftTargets | None:
    """Both answers (C,) at `temperature`, for the `top` classes of the teacher (without one, the
    student's); None without either. Ties keep the order of the classes."""
    leading = student if teacher is None else teacher
    if leading is None:
        return None
    said = soften(leading, temperature)
    order = np.argsort(-said, kind="stable")[:top]
    first, second = float(said[order[0]]), float(said[order[1]]) if len(order) > 1 else 0.0
    soft = [None if logits is None else soften(logits, temperature) for logits in (teacher, student)]
    return SoftTargets(
        temperature=temperature,
        classes=tuple(int(c) for c in order),
        teacher=None if soft[0] is None else soft[0][order],
        student=None if soft[1] is None else soft[1][order],
        entropy=float(entropy(leading, temperature)),
        ratio=first / second if second > 0 else math.inf,
        rest=max(0.0, 1.0 - float(said[order].sum())),
        kl=None if teacher is None or student is None else float(divergence(teacher, student, temperature)),
        count=len(said),
        teacher_says=_first(soft[0]),
        student_says=_first(soft[1]),
    )


def _first(probabilities: np.ndarray | None) -> tuple[int, float] | None:
    if probabilities is None:
        return None
    best = int(np.argmax(probabilities))
    return best, float(probabilities[best])

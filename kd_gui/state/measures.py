"""What was measured of a model, as arrays that can be drawn: confusion, recall, calibration. Pure numpy.

Reads what the engine tells of each model (kd_engine.answers.evaluate, and the Evaluated events of a run), and
makes confusion matrices of predictions that were kept by epoch. What is not known is None, or NaN in arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LARGEST = 200  # classes that a matrix is drawn for; the engine keeps none above that either
CORRUPTIONS = ("noise", "blur", "contrast", "jpeg")
CORRUPTED = "corrupted"  # the mean of them


@dataclass(frozen=True, eq=False)
class Confusion:
    """counts: (C, C) integers, rows are true classes, columns predictions."""

    counts: np.ndarray

    @property
    def support(self) -> np.ndarray:
        """Samples by true class, (C,)."""
        return np.asarray(self.counts.sum(1))

    @property
    def shares(self) -> np.ndarray:
        """(C, C), each row's counts over its sum; 0 in rows without a sample."""
        return np.asarray(self.counts / np.maximum(self.support, 1)[:, None])

    @property
    def recall(self) -> np.ndarray:
        """(C,) of each class's samples, the share that is found; NaN without a sample."""
        support = self.support
        return np.where(support > 0, self.counts.diagonal() / np.maximum(support, 1), np.nan)

    @property
    def top1(self) -> float | None:
        total = int(self.counts.sum())
        return int(self.counts.trace()) / total if total else None

    @property
    def mistakes(self) -> np.ndarray:
        """The shares off the diagonal, (C, C); 0 on it."""
        shares = self.shares
        np.fill_diagonal(shares, 0.0)
        return shares

    def worst(self, most: int = 1) -> list[tuple[int, int]]:
        """(true class, prediction) of the mistakes with the largest counts, then shares; fewer where
        there are fewer."""
        apart = self.counts + self.shares / 2  # shares only decide between equal counts
        np.fill_diagonal(apart, 0.0)
        order = np.argsort(-apart, axis=None, kind="stable")[:most]
        found = [divmod(int(at), len(apart)) for at in order]
        return [(row, column) for row, column in found if apart[row, column] > 0]


@dataclass(frozen=True, eq=False)
class Bins:
    """Samples by confidence, in B bins. low, high, count: (B,); confidence, accuracy: (B,), NaN where count
    is 0."""

    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def too_sure(self) -> float:
        """Mean confidence less accuracy: positive for a model that promises more than it keeps."""
        there = self.count > 0
        weights = self.count[there] / max(self.count.sum(), 1)
        return float((weights * (self.confidence - self.accuracy)[there]).sum())

    def interval(self, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
        """Where each bin's true accuracy lies in 95 of 100 cases, (B,) each: Wilson's interval, 1927."""
        count, share = np.maximum(self.count, 1), np.nan_to_num(self.accuracy)
        middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
        half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
        return middle - half, middle + half


@dataclass(frozen=True, eq=False)
class Figures:
    """What is known of one model. Fractions, nats, milliseconds; None where unknown.

    recall, support: (C,) by class. robust: accuracy by corruption, CORRUPTED for their mean.
    """

    confusion: Confusion | None = None
    recall: np.ndarray | None = None
    support: np.ndarray | None = None
    bins: Bins | None = None
    top1: float | None = None
    ece: float | None = None
    agreement: float | None = None
    kl: float | None = None
    bytes: float | None = None
    parameters: float | None = None
    latency_ms: float | None = None
    robust: Mapping[str, float] = field(default_factory=dict)


def figures(told: Mapping[str, Any]) -> Figures:
    """What the engine tells of one model."""
    matrix = told.get("confusion")
    confusion = None if matrix is None else Confusion(np.asarray(matrix, dtype=np.int64))
    by_class = told.get("per_class") or ()
    support = np.array([int(one["support"]) for one in by_class])
    recall = np.array([_plain(one["recall"]) for one in by_class])
    if len(support):
        recall = np.where(support > 0, recall, np.nan)
    robust = {name: _number(told.get(f"top1_{name}")) for name in (*CORRUPTIONS, CORRUPTED)}
    return Figures(
        confusion=confusion,
        recall=recall if len(recall) else None if confusion is None else confusion.recall,
        support=support if len(support) else None if confusion is None else confusion.support,
        bins=_bins(told.get("calibration") or ()),
        top1=_number(told.get("top1")),
        ece=_number(told.get("ece")),
        agreement=_number(told.get("agreement")),
        kl=_number(told.get("kl")),
        bytes=_number(told.get("bytes")),
        parameters=_number(told.get("parameters")),
        latency_ms=_number(told.get("latency_ms_p50")),
        robust={name: value for name, value in robust.items() if value is not None},
    )


def confusion_of(labels: np.ndarray, predictions: np.ndarray, classes: int) -> Confusion:
    """Of labels and predictions, (N,) each, all below `classes`."""
    flat = labels.astype(np.int64) * classes + predictions.astype(np.int64)
    return Confusion(np.bincount(flat, minlength=classes * classes).reshape(classes, classes))


def predicted(
    labels: np.ndarray, predictions: np.ndarray, teacher: np.ndarray | None, classes: int
) -> Figures:
    """What can be said of a model of which only the predictions (N,) are known. teacher: its teacher's."""
    right = predictions == labels
    support = np.bincount(labels, minlength=classes)
    found = np.bincount(labels[right], minlength=classes)
    return Figures(
        confusion=confusion_of(labels, predictions, classes) if classes <= LARGEST else None,
        recall=np.where(support > 0, found / np.maximum(support, 1), np.nan),
        support=support,
        top1=float(right.mean()) if len(labels) else None,
        agreement=None if teacher is None or not len(labels) else float((predictions == teacher).mean()),
    )


def gaps(student: Figures, teacher: Figures | None) -> np.ndarray | None:
    """(C,) the student's recall less the teacher's; NaN for a class without a sample; None where either is
    unknown."""
    if teacher is None or student.recall is None or teacher.recall is None:
        return None
    if student.recall.shape != teacher.recall.shape:
        return None
    return np.asarray(student.recall - teacher.recall)


def gap_closed(student: float | None, rival: float | None, teacher: float | None) -> float | None:
    """How much of the way from the rival's accuracy to the teacher's the student has gone: 1 is all of it,
    negative is backwards. None where the teacher is not ahead of the rival."""
    if student is None or rival is None or teacher is None or teacher - rival <= 0:
        return None
    return (student - rival) / (teacher - rival)


def _bins(told: Sequence[Mapping[str, Any]]) -> Bins | None:
    if not told:
        return None
    columns = {
        name: np.array([_plain(one.get(name)) for one in told], dtype=np.float64)
        for name in ("low", "high", "count", "confidence", "accuracy")
    }
    return Bins(**columns)


def _plain(value: Any) -> float:
    return math.nan if value is None else float(value)


def _number(value: Any) -> float | None:
    """None for what is unknown or no number."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

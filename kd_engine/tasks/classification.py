"""Classification: one of C classes for each sample; cross-entropy, and what a confusion matrix tells.

torchmetrics costs seconds to import and would be fed from these very arrays; all its figures here are a few
lines of numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from kd_engine.tasks import UNLABELLED, Task

TOP = 5
BINS = 15  # of confidence, as in the tables of Guo et al. 2017
CONFUSION_CLASSES = 200  # above these no confusion matrix is told: C x C numbers would be megabytes of text


class Classification(Task):
    name = "classification"
    title = "Classification"
    help = "Each sample belongs to one class."

    def label_loss(self, logits: Tensor, target: Tensor, counted: Tensor | None = None) -> Tensor:
        """Cross-entropy, the mean over the labelled samples of the batch, nats. logits: (..., C); target:
        (...), or (..., C) where it is soft."""
        wanted = target.flatten(0, -2) if target.is_floating_point() else target.flatten()
        # ignore_index: of classes; rows of soft targets without a label are 0
        total = F.cross_entropy(logits.flatten(0, -2), wanted, ignore_index=UNLABELLED, reduction="sum")
        # "mean" would divide by zero without a label
        return total / (self.counted(target) if counted is None else counted).clamp(min=1)

    def metrics(self, logits: np.ndarray, target: np.ndarray) -> dict[str, Any]:
        """logits: (..., C); target: (...), where UNLABELLED samples do not count. Fractions; nll in nats per
        sample.

        top1, top5 (with more than five classes), nll, ece (expected calibration error), calibration: its
        bins (see `calibrate`), macro {precision, recall, f1}, per_class: a list of {precision, recall, f1,
        support} in class order, confusion: rows are true classes, columns predictions, counts; None above
        CONFUSION_CLASSES classes, where per_class has to do. What is divided by zero is 0: the precision of
        a class never predicted, say. ValueError without a labelled sample.
        """
        classes = logits.shape[-1]
        known = target.reshape(-1) != UNLABELLED
        scores = logits.reshape(-1, classes)[known].astype(np.float64)
        truth = target.reshape(-1)[known].astype(np.int64)
        if len(truth) == 0:
            raise ValueError("no labelled sample to measure on")
        confusion = np.bincount(truth * classes + scores.argmax(1), minlength=classes**2).reshape(
            classes, classes
        )
        hits = np.diagonal(confusion)
        precision = _ratio(hits, confusion.sum(0))
        recall = _ratio(hits, confusion.sum(1))
        f1 = _ratio(2 * hits, confusion.sum(0) + confusion.sum(1))
        names = ("precision", "recall", "f1")
        bins, ece = calibrate(scores, truth)
        figures = {
            "top1": float(hits.sum() / len(truth)),
            "nll": float(_nll(scores, truth).mean()),
            "ece": ece,
            "calibration": bins,
            "samples": len(truth),
            "macro": {name: float(v.mean()) for name, v in zip(names, (precision, recall, f1), strict=True)},
            "per_class": [
                {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
                for p, r, f, n in zip(precision, recall, f1, confusion.sum(1), strict=True)
            ],
            "confusion": confusion.tolist() if classes <= CONFUSION_CLASSES else None,
        }
        return figures | ({"top5": float((_rank(scores, truth) < TOP).mean())} if classes > TOP else {})


def calibrate(scores: np.ndarray, truth: np.ndarray) -> tuple[list[dict[str, Any]], float]:
    """Does a model that says 80 % get 80 % right? The bins of a reliability diagram, and how far off it is.

    scores (N, C), truth (N,). Bins: BINS of equal width over the confidence (the highest probability), each
    {low, high, count, confidence, accuracy}: low < confidence <= high; the means are None where count is 0.
    The error is the mean over the samples of |accuracy - confidence| of their bin: 0 when calibrated. NaN,
    and in no bin, for scores that are no numbers. Guo, Pleiss, Sun, Weinberger 2017, section 2.
    """
    confidence = np.exp(-_nll(scores, scores.argmax(1)))
    right = scores.argmax(1) == truth
    known = np.isfinite(confidence)
    place = np.clip(np.ceil(confidence[known] * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    sure = _ratio(np.bincount(place, confidence[known], BINS), count)
    hits = _ratio(np.bincount(place, right[known], BINS), count)
    bins = [
        {
            "low": i / BINS,
            "high": (i + 1) / BINS,
            "count": int(n),
            "confidence": float(sure[i]) if n else None,
            "accuracy": float(hits[i]) if n else None,
        }
        for i, n in enumerate(count)
    ]
    error = float((count * abs(hits - sure)).sum() / len(truth)) if known.all() else float("nan")
    return bins, error


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    values: np.ndarray = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return values


def _nll(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # scores that are not finite give NaN, which the session looks for
        shifted = scores - scores.max(1, keepdims=True)
        values: np.ndarray = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(truth)), truth]
        return values


def _rank(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How many classes come before the true one; among equals the lower class comes first, as in argmax."""
    own = scores[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(scores.shape[1]) < truth[:, None]
    before = ~(scores <= own) | ((scores == own) & earlier)  # not ">": a true score of NaN must come last
    rank: np.ndarray = before.sum(1)
    return rank

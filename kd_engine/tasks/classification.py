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


class Classification(Task):
    name = "classification"
    title = "Classification"
    help = "Each sample belongs to one class."

    def label_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, the mean over the labelled samples of the batch, nats. logits: (..., C); target:
        (...)."""
        flat, wanted = logits.flatten(0, -2), target.flatten()
        total = F.cross_entropy(flat, wanted, ignore_index=UNLABELLED, reduction="sum")
        return total / (wanted != UNLABELLED).sum().clamp(
            min=1
        )  # "mean" would divide by zero without a label

    def metrics(self, logits: np.ndarray, target: np.ndarray) -> dict[str, Any]:
        """logits: (..., C); target: (...), where UNLABELLED samples do not count. Fractions; nll in nats per
        sample.

        top1, top5 (with more than five classes), nll, macro {precision, recall, f1}, per_class: a list of
        {precision, recall, f1, support} in class order, confusion: rows are true classes, columns
        predictions, counts. What is divided by zero is 0: the precision of a class never predicted, say.
        ValueError without a labelled sample.
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
        figures = {
            "top1": float(hits.sum() / len(truth)),
            "nll": float(_nll(scores, truth).mean()),
            "samples": len(truth),
            "macro": {name: float(v.mean()) for name, v in zip(names, (precision, recall, f1), strict=True)},
            "per_class": [
                {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
                for p, r, f, n in zip(precision, recall, f1, confusion.sum(1), strict=True)
            ],
            "confusion": confusion.tolist(),
        }
        return figures | ({"top5": float((_rank(scores, truth) < TOP).mean())} if classes > TOP else {})


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

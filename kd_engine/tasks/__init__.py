"""What a batch means: the label loss and the metrics. First: image classification.

Nothing outside a task assumes more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd_engine.registry import Plugin

UNLABELLED = -1  # the target of a sample whose label is withheld


def dominant(target: Tensor) -> Tensor:
    """Soft targets (..., C) as classes (...): the one that there is most of, UNLABELLED for rows of 0. Others
    as they are."""
    if not target.is_floating_point():
        return target
    return torch.where(target.any(-1), target.argmax(-1), UNLABELLED)


class Task(Plugin):
    """Base of all tasks. Targets are int64 (...), UNLABELLED where the label is withheld.

    Those of mixed images are soft: float rows (..., C) of how much of each class there is, which sum to 1;
    all 0 where a label is withheld.
    """

    def label_loss(self, logits: Tensor, target: Tensor, counted: Tensor | None = None) -> Tensor:
        """The supervised loss, a scalar, nats per labelled sample; zero (with a gradient of zero) when none
        has a label. counted: what `counted` says of the target, where it was asked already."""
        raise NotImplementedError(type(self))

    def counted(self, target: Tensor) -> Tensor:
        """How many answers of a batch are labelled: a scalar, on the device."""
        return (target.any(-1) if target.is_floating_point() else target != UNLABELLED).sum()

    def right(self, logits: Tensor, target: Tensor) -> Tensor:
        """How many labelled answers of a batch are right: a scalar, on the device. Of a mixed image the class
        that it has most of is right."""
        return (logits.argmax(-1) == dominant(target)).sum()  # no answer is UNLABELLED

    def metrics(self, logits: np.ndarray, target: np.ndarray) -> dict[str, Any]:
        """Plain numbers and nested lists: `top1`, ... Fractions, not percent."""
        raise NotImplementedError(type(self))


Base = Task

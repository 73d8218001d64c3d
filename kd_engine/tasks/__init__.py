"""What a batch means: the label loss and the metrics. First: image classification.

Nothing outside a task assumes more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from kd_engine.registry import Plugin

UNLABELLED = -1  # the target of a sample whose label is withheld


class Task(Plugin):
    """Base of all tasks. Targets are int64; UNLABELLED where the label is withheld."""

    def label_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The supervised loss, a scalar, nats per labelled sample; zero (with a gradient of zero) when none
        has a label."""
        raise NotImplementedError(type(self))

    def hits(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """How many labelled answers of a batch are right, and how many are labelled: two scalars, on the
        device."""
        known = target != UNLABELLED
        return ((logits.argmax(-1) == target) & known).sum(), known.sum()

    def metrics(self, logits: np.ndarray, target: np.ndarray) -> dict[str, Any]:
        """Plain numbers and nested lists: `top1`, ... Fractions, not percent."""
        raise NotImplementedError(type(self))


Base = Task

"""How the label loss depends on the image: the gradient that gradient-based attention transfer compares."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kd_engine.methods import full_precision
from kd_engine.taps import Tap
from kd_engine.tasks import UNLABELLED

INPUT = Tap("input", "", "map", "input")  # the image itself: of every model, though none declares it
GRADIENT = "gradient.input"  # the teacher's answer, under this name among its taps


def sensitivity(inputs: Tensor, logits: Tensor, labels: Tensor, create_graph: bool = False) -> Tensor:
    """The gradient of each sample's cross-entropy (nats) with respect to its image, shaped as `inputs`.

    inputs: a leaf from which the logits (..., C) were computed; labels: (...). The losses are summed, so that
    no sample's gradient depends on how many there are; in training mode BatchNorm mixes them nevertheless.
    create_graph: the result has a gradient itself.
    """
    loss = F.cross_entropy(full_precision(logits).flatten(0, -2), labels.flatten(), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, inputs, create_graph=create_graph)
    return gradient


def believed(target: Tensor, teacher: Tensor) -> Tensor:
    """The labels; where one is withheld, the teacher's top class. target (...); teacher: logits (..., C)."""
    return torch.where(target == UNLABELLED, teacher.argmax(-1), target)

"""How a teacher's answers are written as words of 16 bits, and read again."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

LOGITS = "logits"
WHOLE = 1000  # of so many classes all logits are kept, of more the highest
TOP = 100  # how many of those
LARGEST = 65504.0  # in half precision


class Code(Protocol):
    """How one kind of answer is written: tensors (n, ...) to words (n, words) of 16 bits, and back to
    float32."""

    words: int

    def encode(self, values: Tensor) -> Tensor: ...

    def decode(self, words: Tensor) -> Tensor: ...


class Halves:
    """Half precision; what is larger than that can hold is cut to the largest that it can."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.words = math.prod(shape) if shape else 0

    def encode(self, values: Tensor) -> Tensor:
        halves = values.float().clamp(-LARGEST, LARGEST).half()
        return halves.reshape(len(values), -1).contiguous().view(torch.uint16)

    def decode(self, words: Tensor) -> Tensor:
        return words.view(torch.float16).float().reshape(-1, *self.shape)


class Highest:
    """The highest logits of many classes and which they are; the rest share what is left of the probability.

    Each of the others is given the logit with which they have together the probability that they had.
    """

    def __init__(self, classes: int, top: int = TOP) -> None:
        self.classes, self.top = classes, top
        self.words = 3 * top + 1  # a half and two words of a number each; the logit of the rest

    def encode(self, values: Tensor) -> Tensor:
        values = values.float()
        best, which = values.topk(self.top, dim=-1)
        rest = values.scatter(-1, which, -math.inf).logsumexp(-1) - math.log(self.classes - self.top)
        halves = torch.cat([best, rest[:, None]], -1).clamp(-LARGEST, LARGEST).half().view(torch.uint16)
        return torch.cat([halves, which.to(torch.int32).contiguous().view(torch.uint16)], -1)

    def decode(self, words: Tensor) -> Tensor:
        halves = words[:, : self.top + 1].contiguous().view(torch.float16).float()
        which = words[:, self.top + 1 :].contiguous().view(torch.int32).long()
        rest = halves[:, -1:].expand(-1, self.classes)
        return rest.scatter(-1, which, halves[:, :-1])

    def error(self, values: Tensor) -> Tensor:
        """KL from the softmax of logits (n, classes) to that of what is kept of them, (n,), nats."""
        said = values.float().log_softmax(-1)
        kept = self.decode(self.encode(values)).log_softmax(-1)
        return (said.exp() * (said - kept)).sum(-1)


def code_for(name: str, shape: tuple[int, ...]) -> Code:
    """How such an answer is kept; with no words where it cannot be."""
    if name == LOGITS and len(shape) == 1 and shape[0] > WHOLE:
        return Highest(shape[0])
    return Halves(shape)

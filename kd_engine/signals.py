"""What one model said about one batch: logits, taps by name, attention weights where the model has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor


class Classifier(NamedTuple):
    """A model's last linear layer, which turns its embedding (N, D) into logits: weight (C, D), bias (C,)."""

    weight: Tensor
    bias: Tensor | None

    def each(self, change: Callable[[Tensor], Tensor]) -> Classifier:
        return Classifier(change(self.weight), None if self.bias is None else change(self.bias))


@dataclass(frozen=True)
class Signals:
    """One model's answers to one batch.

    logits: (..., C). taps: by name, e.g. `stage1` (N, C, H, W), `block1` (N, T, D), `embedding` (N, D),
    `preact1` (N, C, H, W) before stage 1's last activation, `value.block1` (N, heads, T, D / heads).
    attention: by block, (N, heads, T, T), rows sum to one; empty for models without attention. classifier:
    None for a model that does not end in a linear layer. samples: (N,) int64, the number of each sample in
    the training part, in a run. members: what each of several teachers said, the main one first, whose
    answers stand in the other fields too; empty for one teacher.
    """

    logits: Tensor
    taps: Mapping[str, Tensor] = field(default_factory=dict)
    attention: Mapping[str, Tensor] = field(default_factory=dict)
    classifier: Classifier | None = None
    samples: Tensor | None = None
    members: tuple[Signals, ...] = ()

    def each(self, change: Callable[[Tensor], Tensor]) -> Signals:
        """The same with every tensor changed so, always in the same order; samples stay."""
        return Signals(
            change(self.logits),
            {name: change(tensor) for name, tensor in self.taps.items()},
            {name: change(tensor) for name, tensor in self.attention.items()},
            None if self.classifier is None else self.classifier.each(change),
            self.samples,
            tuple(member.each(change) for member in self.members),
        )

    def detach(self) -> Signals:
        """The same values without their history; itself where they have none."""
        if not any(tensor.requires_grad for tensor in self.tensors()):
            return self
        return self.each(Tensor.detach)

    def tensors(self) -> Iterator[Tensor]:
        """All that `each` changes, in its order."""
        yield self.logits
        yield from self.taps.values()
        yield from self.attention.values()
        if self.classifier is not None:
            yield self.classifier.weight
            if self.classifier.bias is not None:
                yield self.classifier.bias
        for member in self.members:
            yield from member.tensors()

    def shapes(self, samples: int = 0) -> Shapes:
        """Shapes of one sample: without the batch dimension. samples: how many the training part has, where
        that is known."""
        return Shapes(
            self.logits.shape[-1],
            {name: tuple(tensor.shape[1:]) for name, tensor in self.taps.items()},
            {name: tuple(tensor.shape[1:]) for name, tensor in self.attention.items()},
            self.classifier is not None,
            samples,
            max(1, len(self.members)),
        )


@dataclass(frozen=True)
class Shapes:
    """What a method needs to know of a model before training: the number of classes, and each tap's shape
    for one sample, e.g. `stage3` → (64, 8, 8), `block1` → (65, 192), `embedding` → (64,).

    classifier: whether the model ends in a linear layer. samples: how many the training part has; 0 where
    that is not known. members: how many teachers answer.
    """

    classes: int
    taps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    attention: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    classifier: bool = False
    samples: int = 0
    members: int = 1


def together(members: Sequence[Signals]) -> Signals:
    """What several teachers said of one batch; the first stands for all where a method hears only one."""
    return replace(members[0], members=tuple(members)) if len(members) > 1 else members[0]

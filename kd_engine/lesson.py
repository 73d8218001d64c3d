"""One student's lesson: the student and the methods' trainable parts in one module, with the weights of its
losses.

The lesson is the one thing that is trained, saved and moved. Rivals have a lesson each and share the
batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from kd_engine.activity import place_of
from kd_engine.errors import KdError
from kd_engine.methods import Method
from kd_engine.schedules import Clock
from kd_engine.sensitivity import GRADIENT, INPUT
from kd_engine.signals import Shapes, Signals
from kd_engine.taps import Reader, Tap
from kd_engine.tasks import Task

LABEL = "label"  # the name of the supervised term


class Losses(NamedTuple):
    """What a batch cost. terms: raw, by name; weighted: what they add to the total; hits: the task's (right,
    counted) answers, for the accuracy."""

    total: Tensor
    terms: dict[str, Tensor]
    weighted: dict[str, Tensor]
    hits: tuple[Tensor, Tensor]


class Lesson(nn.Module):
    """A student that learns by weighted losses.

    Weights are plain numbers and may change between two steps; a loss whose weight is zero is not computed.
    """

    def __init__(
        self,
        student: nn.Module,
        taps: Mapping[str, Tap],
        task: Task,
        methods: Mapping[str, Method],
        shapes: tuple[Shapes, Shapes] | None,
        teaches: bool = False,
    ) -> None:
        """methods: by the name of their terms (see `term_names`). shapes: of student and teacher (the
        student's twice where there is none); None without methods. teaches: the student is a peer, which
        others with these methods learn from: it is also heard where they listen to a teacher. KdError where
        that is nothing that a peer can say."""
        super().__init__()
        self.student = student
        self.methods = nn.ModuleDict(methods)
        self.task = task
        self.weights: dict[str, float] = dict.fromkeys((LABEL, *methods), 1.0)
        self._taught = [name for name, method in methods.items() if method.needs_teacher]
        self.teacher_taps: tuple[str, ...] = ()
        wanted: tuple[str, ...] = ()
        if shapes is not None:
            for method in methods.values():
                method.prepare(*shapes)
                wanted += method.student_taps(*shapes)
                self.teacher_taps += method.teacher_taps(*shapes)
        if teaches and GRADIENT in self.teacher_taps:
            raise KdError(
                "a method asks how the teacher's loss depends on the image, which peers never say.",
                "Use it in a stage with a teacher.",
            )
        if teaches:
            wanted += tuple(place_of(name) for name in self.teacher_taps)
        places = {**taps, INPUT.name: INPUT}
        missing = [name for name in wanted if name not in places]
        if missing:
            raise KdError(f"the student has no tap {', '.join(missing)}; it has {', '.join(taps)}")
        # dict.fromkeys: each tap once, in order
        self._reader = Reader(student, [places[name] for name in dict.fromkeys(wanted)])

    @property
    def needs_teacher(self) -> bool:
        """Whether any loss in force asks what the teacher says."""
        return any(self.weights[name] for name in self._taught)

    def set_clock(self, clock: Clock) -> None:
        """How far the stage is: for weights and temperatures that change over it."""
        for method in self.methods.values():
            vars(method)["clock"] = clock  # past the checks of a module: it is no part

    def hear(self, inputs: Tensor, samples: Tensor | None = None) -> Signals:
        """What the student says of a batch (N, 3, H, W). samples: their numbers in the training part,
        (N,)."""
        if INPUT not in self._reader.taps:
            return self._reader(inputs, samples)
        with sdpa_kernel(SDPBackend.MATH):  # the faster kernels of attention have no second derivative
            return self._reader(inputs.detach().requires_grad_(), samples)

    def forward(self, said: Signals, teacher: Signals | None, target: Tensor) -> Losses:
        """The weighted sum of the losses, and each of them. said: by the student, from `hear`; target (N,),
        or as the task says. Methods that need no teacher are shown the student's own signals where there is
        none.
        """
        counted = self.task.counted(target)
        raw: dict[str, Tensor] = {}
        weighted: dict[str, Tensor] = {}
        if self.weights[LABEL]:
            raw[LABEL] = self.task.label_loss(said.logits, target, counted)
            weighted[LABEL] = self.weights[LABEL] * raw[LABEL]
        for name, method in self.methods.items():
            method = _method(method)
            if not self.weights[name] or (teacher is None and method.needs_teacher):
                continue
            raw[name] = _sum(method(said, said if teacher is None else teacher, target))
            weighted[name] = self.weights[name] * method.strength(teacher) * raw[name]
        # every weight may be zero: nothing to learn, yet a step must have a gradient
        total = reduce(torch.add, weighted.values()) if weighted else said.logits.sum() * 0.0
        return Losses(total, raw, weighted, (self.task.right(said.logits.detach(), target), counted))

    def close(self) -> None:
        """Take the ears off the student."""
        self._reader.close()


def term_names(methods: list[str]) -> list[str]:
    """A name for each method's loss in curves and logs: the method's, numbered where it stands twice (kd,
    kd_2)."""
    return [
        name if methods[:i].count(name) == 0 else f"{name}_{methods[:i].count(name) + 1}"
        for i, name in enumerate(methods)
    ]


def _sum(terms: dict[str, Tensor]) -> Tensor:
    first, *rest = terms.values()
    for term in rest:
        first = first + term
    return first


def _method(module: nn.Module) -> Method:
    assert isinstance(module, Method)
    return module

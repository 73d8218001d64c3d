"""One student's lesson: the student and the methods' trainable parts in one module, with the weights of its
losses.

The lesson is the one thing that is trained, saved and moved. Rivals have a lesson each and share the
batches.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.methods import Method
from kd_engine.signals import Shapes, Signals
from kd_engine.taps import Reader, Tap
from kd_engine.tasks import Task

LABEL = "label"  # the name of the supervised term


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
    ) -> None:
        """methods: by the name of their terms (see `term_names`). shapes: of student and teacher; None
        without one."""
        super().__init__()
        self.student = student
        self.methods = nn.ModuleDict(methods)
        self.task = task
        self.weights: dict[str, float] = dict.fromkeys((LABEL, *methods), 1.0)
        self.teacher_taps: tuple[str, ...] = ()
        wanted: tuple[str, ...] = ()
        if shapes is not None:
            for method in methods.values():
                method.prepare(*shapes)
                wanted += method.student_taps(*shapes)
                self.teacher_taps += method.teacher_taps(*shapes)
        missing = [name for name in wanted if name not in taps]
        if missing:
            raise KdError(f"the student has no tap {', '.join(missing)}; it has {', '.join(taps)}")
        # dict.fromkeys: each tap once, in order
        self._reader = Reader(student, [taps[name] for name in dict.fromkeys(wanted)])

    @property
    def needs_teacher(self) -> bool:
        """Whether any loss in force asks what the teacher says."""
        return any(self.weights[name] for name in self.methods)

    def forward(
        self, inputs: Tensor, teacher: Signals | None, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, Tensor]]:
        """The weighted sum; every term raw, by name; and the task's (right, counted) answers, for the
        accuracy.

        inputs (N, 3, H, W); target (N,), or as the task says.
        """
        signals = self._reader(inputs)
        terms: dict[str, Tensor] = {}
        total = signals.logits.new_zeros(())
        if self.weights[LABEL]:
            terms[LABEL] = self.task.label_loss(signals.logits, target)
            total = total + self.weights[LABEL] * terms[LABEL]
        for name, method in self.methods.items():
            if self.weights[name] and teacher is not None:
                terms[name] = _sum(method(signals, teacher, target))
                total = total + self.weights[name] * terms[name]
        if not terms:  # every weight is zero: nothing to learn, yet a step must have a gradient
            total = signals.logits.sum() * 0.0
        return total, terms, self.task.hits(signals.logits.detach(), target)

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

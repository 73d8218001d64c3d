"""Distillation methods: (student signals, teacher signals, target) to named losses. They never run a model.

One paper, one file. A method is an nn.Module so that its trainable parts (a regressor, say) are saved, moved
and optimised with the student. It learns the shapes once, in `prepare`, before training.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.knobs import Knobs, knob
from kd_engine.registry import Plugin, find
from kd_engine.schedules import END, Clock, between
from kd_engine.signals import Shapes, Signals

Terms = dict[str, Tensor]

FAMILIES: Mapping[str, str] = {  # what is handed over, in the order to offer them; others may be declared
    "logits": "What the teacher says of every class.",
    "features": "What the layers hold: the student's maps are led towards the teacher's.",
    "attention": "Where the networks look.",
    "relations": "How samples, or layers, stand to each other.",
    "self-distillation": "The student is its own teacher, or an invented one is: no other network is needed.",
    "several models": "Many teachers for one student, or students that teach each other.",
}


class MethodKnobs(Knobs):
    """Its weight in the total loss, and how that moves. Subclasses restate `weight` with their default."""

    weight: float = knob(
        1.0, "How much this loss counts in the sum.", low=0, high=1e5, scale="log", live=True, unit="weight"
    )
    weight_schedule: Literal["constant", "linear", "cosine", "warm-up", "confidence"] = knob(
        "constant",
        "How the weight moves: linear or cosine from itself to a share of it over the stage; warm-up from "
        "that share to itself over the first epochs; confidence: times the teacher's mean top probability in "
        "the batch.",
        advanced=True,
    )
    weight_final: float = knob(
        0.0,
        "The weight's other end, for schedules, as a share of it.",
        low=0,
        high=1,
        advanced=True,
    )
    weight_warmup: float = knob(
        1 / 12,
        "Share of the stage that a warm-up takes. 1/12 is 20 of 240 epochs.",
        low=0,
        high=1,
        advanced=True,
    )


class Method(nn.Module, Plugin):
    """Base of all methods. Subclasses set `name`, `title`, `help`, `source`, `Knobs`, and write `terms`.

    Settings are read from `self.knobs` at each call: live knobs are changed by replacing it. A method that
    looks at one signal only calls its term by its own name ("kd"); one with several calls them "NAME_PART"
    ("at_stage1").
    """

    Knobs: ClassVar[type[Knobs]] = MethodKnobs
    depends_on_order: ClassVar[bool] = False  # whether permuting the batch may change the loss
    needs_teacher: ClassVar[bool] = (
        True  # else a run may have none; it is then shown the student's own signals
    )
    family: ClassVar[str] = ""  # one of FAMILIES; left out: told from what it needs, see `kin`
    first_stage: ClassVar[Mapping[str, Any] | None] = None  # its knobs in a stage of its own, before others
    accompanies: ClassVar[bool] = True  # whether, after such a stage, it stands beside the labels too
    # Whether it reads targets as classes, which mixed images have not. {knob: value}: only where it is so set
    hard_targets: ClassVar[bool | Mapping[str, str]] = False
    # Whether its step needs what all students share: random numbers, the choice of attention's kernels
    alone: ClassVar[bool] = False
    grafts: ClassVar[bool] = False  # whether the student gets the teacher's classifier, see kd_engine.graft

    def __init__(self, knobs: Any) -> None:
        super().__init__()
        self.knobs = knobs
        self.clock: Clock = END  # how far the stage is; set before every step
        self.prepared = False

    def student_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        """Which of the student's taps this method reads (`attention.block1`: weights). Empty: logits only."""
        return ()

    def teacher_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
        """Which of the teacher's taps it reads."""
        return ()

    def problems(self, student: Shapes, teacher: Shapes) -> list[str]:
        """Why it cannot work between two such models; empty when it can. The recipe check asks first."""
        return []

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Make the trainable parts, where there are any. Called once."""

    def terms(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        """Named scalar losses, unweighted, means over the batch."""
        raise NotImplementedError(type(self))

    def prepare(self, student: Shapes, teacher: Shapes) -> None:
        """Check and build for two models of such shapes. KdError with every reason when it cannot work."""
        if why := self.problems(student, teacher):
            raise KdError(f"method '{self.name}' cannot work here: " + "; ".join(why))
        self.build(student, teacher)
        self.prepared = True

    def forward(self, student: Signals, teacher: Signals, target: Tensor) -> Terms:
        """As `terms`. A method that was not prepared learns the shapes from these very signals."""
        if not self.prepared:
            self.prepare(student.shapes(), teacher.shapes())
            self.to(student.logits.device)
        return self.terms(student, teacher.detach(), target)

    def strength(self, teacher: Signals | None) -> float | Tensor:
        """What its weight is multiplied by at this moment: 1, or as `weight_schedule` says."""
        knobs = self.knobs
        if knobs.weight_schedule == "confidence":
            return 1.0 if teacher is None else full_precision(teacher.logits).softmax(-1).amax(-1).mean()
        return between(knobs.weight_schedule, self.clock, 1.0, knobs.weight_final, knobs.weight_warmup)

    @classmethod
    def kin(cls) -> str:
        """Its family: as declared, or else by whether it needs a teacher and whether it reads more than
        logits."""
        if cls.family:
            return cls.family
        if not cls.needs_teacher:
            return "self-distillation"
        return "logits" if cls.student_taps is Method.student_taps else "features"

    @classmethod
    def facts(cls) -> Mapping[str, Any]:  # type: ignore[override]
        return {
            "needs_teacher": cls.needs_teacher,
            "grafts": cls.grafts,
            "hard_targets": cls.hard_targets,
            "family": cls.kin(),
            "first_stage": cls.first_stage,
            "accompanies": cls.accompanies,
        }


Base = Method


def full_precision(tensor: Tensor) -> Tensor:
    """`tensor`, in float32 if it came in half precision: in fp16 the square of 300 is infinite."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Whether a label (...) is each of so many classes, (..., C) bool; torch's own waits for the device to
    look whether there is such a class."""
    return labels.unsqueeze(-1) == torch.arange(classes, device=labels.device)


def pair_taps(student: Shapes, teacher: Shapes, series: str = "stage") -> tuple[tuple[str, str], ...]:
    """The taps `series`1 ... `series`K of both models, (student's, teacher's), first stage first.

    Paired from the last backwards, so that a student with fewer stages meets the teacher's deepest ones.
    """
    ours, theirs = _numbered(student, series), _numbered(teacher, series)
    shared = min(len(ours), len(theirs))
    return tuple(zip(ours[len(ours) - shared :], theirs[len(theirs) - shared :], strict=True))


def _numbered(shapes: Shapes, series: str) -> list[str]:
    names = [name for name in shapes.taps if re.fullmatch(rf"{series}\d+", name)]
    return sorted(names, key=lambda name: int(name.removeprefix(series)))


def create(name: str, **knobs: Any) -> Method:
    """A method by name, as in `create("kd", temperature=4.0)`. KdError for a name that is not there."""
    plugin: type[Method] = find("methods", name)
    return plugin(plugin.Knobs(**knobs))

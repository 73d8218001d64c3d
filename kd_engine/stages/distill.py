"""Distil: the student learns from a teacher by one or more methods, beside rivals that differ in method or
weight."""

from __future__ import annotations

from typing import Literal

from kd_engine.events import STUDENT
from kd_engine.knobs import knob
from kd_engine.recipe import StageSection
from kd_engine.stages import Learner, Stage, StageKnobs, label_weight, learner, rivals


class DistillKnobs(StageKnobs):
    label_weight: float = label_weight(0.1)
    taught_by: Literal["teacher", "previous"] = knob(
        "teacher",
        "Who teaches: the recipe's teacher, or the student of the stage before, as with a teacher assistant "
        "or a born-again student.",
        advanced=True,
    )


class Distill(Stage):
    """The student learns from the teacher; rivals start from the same weights and share the teacher's one
    pass."""

    name = "distill"
    title = "Distil"
    help = "The student learns from the teacher, and from the labels as much as their weight says."
    Knobs = DistillKnobs
    needs_teacher = True
    parts = ("optimizer", "schedule", "student", "methods", "rivals")

    @classmethod
    def learners(cls, stage: StageSection, path: str) -> list[Learner]:
        return [learner(STUDENT, path, stage.label_weight, stage.methods), *rivals(stage, path)]

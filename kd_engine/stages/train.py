"""Train on labels alone: a teacher, or a student without one."""

from __future__ import annotations

from kd_engine.events import STUDENT
from kd_engine.recipe import StageSection
from kd_engine.stages import Learner, Stage, learner


class Train(Stage):
    """The recipe's student learns from labels; no teacher is run."""

    name = "train"
    title = "Train on labels"
    help = "The student learns from the labels alone. Used to make teachers, too."

    @classmethod
    def learners(cls, stage: StageSection, path: str) -> list[Learner]:
        return [learner(STUDENT, path, 1.0, ())]

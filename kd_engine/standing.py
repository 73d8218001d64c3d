"""Where a run stands: what its session, its steering and its journal share, and how to stand there again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from kd_engine.checkpoint import Checkpoint, Progress
from kd_engine.document import get_at
from kd_engine.recipe import Recipe, StageSection
from kd_engine.trainee import Trainee


@dataclass
class Standing:
    """document: the recipe with the live values in force. students: of the stage that is going, the recipe's
    own first; none before the first stage. lr: the stage's learning rate, before its schedule. sick: a loss
    became no number, so that going on means going back to the last checkpoint."""

    recipe: Recipe
    document: dict[str, Any]
    at: Progress = field(default_factory=Progress)
    students: list[Trainee] = field(default_factory=list)
    lr: float = 0.0
    sick: bool = False

    @property
    def stage(self) -> StageSection:
        return self.recipe.stages[min(self.at.stage, len(self.recipe.stages) - 1)]

    @property
    def epochs(self) -> int:
        """Complete ones, over all stages."""
        return sum(stage.epochs for stage in self.recipe.stages[: self.at.stage]) + self.at.epoch

    @property
    def best_now(self) -> bool:
        """Whether the student's weights are, at this moment, its best so far."""
        best = self.students[0].best if self.students else None
        return best is not None and self.at.batch == 0 and best[1] == self.at.epoch

    def checkpoint(self, data: str) -> Checkpoint:
        """data: the fingerprint of the training data."""
        students = {student.name: student.state() for student in self.students}
        return Checkpoint(self.at, self.document, students, torch.get_num_threads(), data)

    def restore(self, saved: Checkpoint) -> None:
        """Stand where the checkpoint was made; the students of its stage must be there."""
        self.at, self.document, self.sick = saved.progress, saved.recipe, False
        for student in self.students:
            student.restore(saved.students[student.name])
        self.apply_knobs()

    def apply_knobs(self) -> None:
        """Let the values of the document be in force."""
        self.lr = float(get_at(self.document, f"stages.{self.at.stage}.optimizer.lr"))
        for student in self.students:
            student.set_knobs(self.document)

    def dismiss(self) -> None:
        """Let the students go. Idempotent."""
        for student in self.students:
            student.close()

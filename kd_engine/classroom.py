"""Everything a run needs before its first step: data, task, teacher and students, made from a recipe.

Used by the session, and by every question about a recipe or a stored run (describe, evaluate, probe, export).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kd_engine import card, graft, models, paths, weights
from kd_engine import data as data_module
from kd_engine.backend import Backend, seeded
from kd_engine.batches import Batches
from kd_engine.cached import CachedTeacher
from kd_engine.data import Data, PartName
from kd_engine.errors import KdError
from kd_engine.events import STUDENT
from kd_engine.recipe import DataSection, MethodSection, ModelSection, Recipe
from kd_engine.recipe_knobs import DataKnobs
from kd_engine.registry import find
from kd_engine.stages import Learner, Stage
from kd_engine.taps import measure
from kd_engine.tasks import Task
from kd_engine.teacher import LiveTeacher, Model, Teachers
from kd_engine.trainee import Trainee

Progress = Callable[[str, float | None], None]


def silent(_what: str, _fraction: float | None) -> None:
    """A progress that nobody watches."""


@dataclass(frozen=True)
class Alumnus:
    """A student at the end of a stage: its weights, and the state of its methods' parts by term."""

    weights: dict[str, Tensor]
    parts: dict[str, dict[str, Tensor]]

    @classmethod
    def of(cls, trainee: Trainee) -> Alumnus:
        parts = {name: method.state_dict() for name, method in trainee.lesson.methods.items()}
        return cls(trainee.module.state_dict(), parts)


class Classroom:
    """Data, task and backend of a recipe; makes its teacher and students."""

    def __init__(
        self, recipe: Recipe, runs: Path, progress: Progress = silent, data: Data | None = None
    ) -> None:
        """data: what `load_data` makes of the recipe, where it is already there."""
        self.recipe = recipe
        self.runs = runs
        self.backend = Backend(recipe.hardware)
        self.data = load_data(recipe.data, progress) if data is None else data
        dataset = find("datasets", recipe.data.dataset)
        self.task: Task = find("tasks", dataset.task)()
        self.notes: list[str] = []  # what the user should hear of the models that were made
        self._batches: dict[PartName, Batches] = {}

    def batches(self, part: PartName) -> Batches:
        """Inputs and targets of "train", "validation" or "test" on the device."""
        if part not in self._batches:
            self._batches[part] = self.data.batches(part, self.backend.device)
        return self._batches[part]

    def model(self, section: ModelSection, role: str) -> Model:
        """The model of a recipe's section, with its weights, on the device. KdError when it does not fit
        the data."""
        found = self._card(section)
        with seeded(self.recipe.seed, role):
            module = models.create(section.model, len(self.data.classes), self.data.size, **section.more)
            taps = dict(models.taps_of(section.model, module))
            if (change := graft.rebuild(module, found)) is not None:
                taps = graft.moved(taps, change)
        weights.load(module, section.model, section.weights, self.runs)
        self.notes += [
            f"The {role} may not fit the data: {why}." for why in card.conflicts(found or {}, self.data)
        ]
        shapes = replace(measure(module, taps, self.data.size), samples=len(self.data.train))
        return Model(self.backend.place(module), taps, shapes, found)

    def teacher(self) -> LiveTeacher | None:
        if self.recipe.teacher is None:
            return None
        sections = (self.recipe.teacher, *self.recipe.more_teachers)
        members = [self._teacher(section) for section in sections]
        return Teachers(members) if len(members) > 1 else members[0]

    def _teacher(self, section: ModelSection) -> LiveTeacher:
        model, hardware = self.model(section, "teacher"), self.recipe.hardware
        if hardware.cache == "off":
            return LiveTeacher(model, self.backend)
        return CachedTeacher(model, section, self, hardware.cache, hardware.cache_mb)

    def assistant(self, stage: int, weights: Path) -> LiveTeacher:
        """The student of a stage, with the weights that it ended with, as the teacher of the next."""
        section = self.section(stage).model_copy(update={"weights": str(weights)})
        return LiveTeacher(self.model(section, "assistant"), self.backend)

    def section(self, stage: int) -> ModelSection:
        """The model that a stage trains."""
        return self.recipe.stages[stage].student or self.recipe.student

    def begins_anew(self, stage: int) -> bool:
        """Whether the student of a stage does not go on with the weights of the stage before."""
        if stage == 0 or self.recipe.stages[stage].more.get("start") == "fresh":
            return True
        return self.section(stage) != self.section(stage - 1)

    def student(self, stage: int | None = None) -> Model:
        """The recipe's student, untrained; or that of a stage, where each has initial weights of its own."""
        if not stage:
            return self.model(self.recipe.student if stage is None else self.section(0), "student")
        return self.model(self.section(stage), f"student of stage {stage}")

    def trainees(
        self,
        stage: int,
        student: Model,
        teacher: LiveTeacher | None,
        before: Mapping[str, Alumnus] | None = None,
    ) -> list[Trainee]:
        """The students of a stage, each with fresh methods and optimizer.

        They start from the weights of `student`; or, where the stage goes on from one before, from those that
        they ended it with, if they were in it, together with the methods' parts. before: the students of that
        stage, by name.
        """
        section = self.recipe.stages[stage]
        learners = self.learners(stage)
        peers = sum(learner.peer for learner in learners)
        made = []
        for learner in learners:
            with seeded(self.recipe.seed, "methods", stage, learner.name):
                others = student.shapes if learner.peer or teacher is None else teacher.shapes
                if learner.peer:
                    others = replace(others, members=peers - 1)
                body = self._body(stage, learner, student)
                earlier = None if self.begins_anew(stage) else (before or {}).get(learner.name)
                if earlier is not None:
                    body.load_state_dict(earlier.weights)
                own = self.grafted(learner, replace(student, module=body), teacher)
                made.append(
                    Trainee(
                        learner,
                        own.module,
                        own.taps,
                        self.task,
                        (own.shapes, others),
                        section.optimizer,
                        self.backend,
                    )
                )
            if earlier is not None:
                _go_on(made[-1], earlier)
        if teacher is not None:
            teacher.listen(
                tap for trainee in made if not trainee.learner.peer for tap in trainee.lesson.teacher_taps
            )
        return made

    def _body(self, stage: int, learner: Learner, student: Model) -> nn.Module:
        if learner.peer and learner.name != STUDENT:  # equal peers would have nothing to tell each other
            return self.model(self.section(stage).model_copy(update={"weights": None}), learner.name).module
        return copy.deepcopy(student.module)

    def grafted(self, learner: Learner, student: Model, teacher: Model | LiveTeacher | None) -> Model:
        """`student`, whose module gets the teacher's classifier where a method of the learner wants that.
        KdError when it cannot be."""
        factors = [factor for section in learner.methods if (factor := factor_of(section)) is not None]
        if not factors:
            return student
        if teacher is None or learner.peer:
            raise KdError("a student can get the classifier of a teacher that is trained, not of its peers")
        if len(factors) > 1:
            raise KdError("a student can get one classifier only: leave one of these methods out")
        return graft.grafted(student, teacher, factors[0], self.data.size)

    def _card(self, section: ModelSection) -> dict[str, Any] | None:
        if section.weights is None or weights.is_published(section.weights):
            return None
        return card.read(weights.locate(section.weights, self.runs))

    def learners(self, stage: int) -> list[Learner]:
        """Who learns in a stage, the recipe's own student first."""
        section = self.recipe.stages[stage]
        plugin: type[Stage] = find("stages", section.stage)
        return plugin.learners(section, f"stages.{stage}")


def load_data(section: DataSection, progress: Progress = silent) -> Data:
    """The dataset of a recipe, split and labelled as it says."""
    plugin = find("datasets", section.dataset)
    loaded = plugin.load(plugin.Knobs(**section.more), paths.datasets(), progress, section.memory_mb)
    chosen = {name: getattr(section, name) for name in DataKnobs.model_fields if name != "memory_mb"}
    return data_module.prepare(loaded, **chosen)


def _go_on(trainee: Trainee, before: Alumnus) -> None:
    """Take over the parts of the methods that a student of that name goes on with."""
    for name, method in trainee.lesson.methods.items():
        mine, theirs = method.state_dict(), before.parts.get(name, {})
        if mine.keys() == theirs.keys() and all(mine[key].shape == theirs[key].shape for key in mine):
            method.load_state_dict(theirs)


def factor_of(section: MethodSection) -> int | None:
    """By how much a projector is narrowed, for a method that grafts; None for others."""
    plugin = find("methods", section.method)
    return int(plugin.Knobs(**settings(section)).factor) if plugin.grafts else None


def settings(section: MethodSection) -> dict[str, Any]:
    """A method's knobs as its recipe sets them."""
    return {**section.more, "weight": section.weight}

"""Everything a run needs before its first step: data, task, teacher and students, made from a recipe.

Used by the session, and by every question about a recipe or a stored run (describe, evaluate, probe, export).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from kd_engine import card, models, paths, weights
from kd_engine import data as data_module
from kd_engine.backend import Backend, seeded
from kd_engine.data import Batches, Data
from kd_engine.errors import Problem, RecipeError
from kd_engine.optim import milestones
from kd_engine.recipe import DataKnobs, DataSection, ModelSection, Recipe
from kd_engine.registry import find
from kd_engine.stages import Learner, Stage
from kd_engine.taps import measure
from kd_engine.tasks import Task
from kd_engine.teacher import LiveTeacher, Model
from kd_engine.trainee import Trainee

Part = Literal["train", "validation", "test"]
Progress = Callable[[str, float | None], None]


def silent(_what: str, _fraction: float | None) -> None:
    """A progress that nobody watches."""


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
        self._batches: dict[Part, Batches] = {}

    def batches(self, part: Part) -> Batches:
        """Inputs and targets of "train", "validation" or "test" on the device."""
        if part not in self._batches:
            self._batches[part] = self.data.batches(part, self.backend.device)
        return self._batches[part]

    def model(self, section: ModelSection, role: str) -> Model:
        """The model of a recipe's section, with its weights, on the device. KdError when it does not fit
        the data."""
        family = models.family_of(section.model)
        with seeded(self.recipe.seed, role):
            module = models.create(section.model, len(self.data.classes), self.data.size, **section.more)
        weights.load(module, section.model, section.weights, self.runs)
        found = self._card(section)
        self.notes += [
            f"The {role} may not fit the data: {why}." for why in card.conflicts(found or {}, self.data)
        ]
        taps = {tap.name: tap for tap in family.taps(section.model, module)}
        shapes = measure(module, taps, self.data.size)
        return Model(self.backend.place(module), taps, shapes, found)

    def teacher(self) -> LiveTeacher | None:
        if self.recipe.teacher is None:
            return None
        return LiveTeacher(self.model(self.recipe.teacher, "teacher"), self.backend)

    def student(self) -> Model:
        return self.model(self.recipe.student, "student")

    def trainees(self, stage: int, student: Model, teacher: LiveTeacher | None) -> list[Trainee]:
        """The students of a stage, all from the weights of `student`, each with fresh methods and
        optimizer."""
        section = self.recipe.stages[stage]
        plugin: type[Stage] = find("stages", section.stage)
        made = []
        shapes = (student.shapes, teacher.shapes) if teacher is not None else None
        for learner in plugin.learners(section, f"stages.{stage}"):
            with seeded(self.recipe.seed, "methods", stage, learner.name):
                module = copy.deepcopy(student.module)
                made.append(
                    Trainee(learner, module, student.taps, self.task, shapes, section.optimizer, self.backend)
                )
        if teacher is not None:
            teacher.listen(tap for trainee in made for tap in trainee.lesson.teacher_taps)
        return made

    def _card(self, section: ModelSection) -> dict[str, Any] | None:
        if section.weights is None or section.weights == "torchvision":
            return None
        return card.read(weights.locate(section.weights, self.runs))

    def learners(self, stage: int) -> list[Learner]:
        section = self.recipe.stages[stage]
        plugin: type[Stage] = find("stages", section.stage)
        return plugin.learners(section, f"stages.{stage}")


def load_data(section: DataSection, progress: Progress = silent) -> Data:
    """The dataset of a recipe, split and labelled as it says."""
    plugin = find("datasets", section.dataset)
    loaded = plugin.load(plugin.Knobs(**section.more), paths.datasets(), progress, section.memory_mb)
    settings = {name: getattr(section, name) for name in DataKnobs.model_fields if name != "memory_mb"}
    return data_module.prepare(loaded, **settings)


def deep_problems(room: Classroom, student: Model, teacher: LiveTeacher | None) -> list[Problem]:
    """What only shows with data and models at hand: methods that cannot work between them, impossible
    settings."""
    found: list[Problem] = []
    for i, stage in enumerate(room.recipe.stages):
        learner_paths = {learner.path: learner for learner in room.learners(i)}
        for path, learner in learner_paths.items():
            for j, section in enumerate(learner.methods):
                method = find("methods", section.method)(
                    find("methods", section.method).Knobs(**_knobs(section))
                )
                if teacher is not None:
                    why = method.problems(student.shapes, teacher.shapes)
                    found += [Problem(f"{path}.methods.{j}", reason) for reason in why]
        if stage.schedule.name == "step":
            found += _milestone_problems(stage.schedule.more["milestones"], f"stages.{i}.schedule.milestones")
    return found


def require(problems: list[Problem]) -> None:
    """RecipeError when there are any."""
    if problems:
        raise RecipeError(problems)


def _knobs(section: Any) -> dict[str, Any]:
    return {**section.more, "weight": section.weight}


def _milestone_problems(text: str, path: str) -> list[Problem]:
    try:
        shares = milestones(text)
    except ValueError:
        return [Problem(path, f"got {text!r}, expected shares of the training such as 0.5,0.75")]
    bad = [share for share in shares if not 0 < share < 1]
    return [Problem(path, f"got {share:g}, expected a share between 0 and 1") for share in bad]

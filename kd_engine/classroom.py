"""Everything a run needs before its first step: data, task, teacher and students, made from a recipe.

Used by the session, and by every question about a recipe or a stored run (describe, evaluate, probe, export).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from kd_engine import card, graft, models, paths, weights
from kd_engine import data as data_module
from kd_engine.backend import Backend, seeded
from kd_engine.cached import CachedTeacher
from kd_engine.data import Batches, Data
from kd_engine.errors import KdError, Problem, RecipeError
from kd_engine.events import STUDENT
from kd_engine.optim import milestones
from kd_engine.recipe import DataKnobs, DataSection, MethodSection, ModelSection, Recipe
from kd_engine.registry import find
from kd_engine.signals import Shapes
from kd_engine.stages import Learner, Stage
from kd_engine.taps import measure
from kd_engine.tasks import Task
from kd_engine.teacher import LiveTeacher, Model, Teachers
from kd_engine.trainee import Trainee

Part = Literal["train", "validation", "test"]
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
        self._batches: dict[Part, Batches] = {}

    def batches(self, part: Part) -> Batches:
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
        factors = [factor for section in learner.methods if (factor := _factor(section)) is not None]
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
    settings = {name: getattr(section, name) for name in DataKnobs.model_fields if name != "memory_mb"}
    return data_module.prepare(loaded, **settings)


def deep_problems(room: Classroom, student: Model, teacher: LiveTeacher | None) -> list[Problem]:
    """What only shows with data and models at hand: methods that cannot work between them, impossible
    settings."""
    found: list[Problem] = []
    before = None
    for i, stage in enumerate(room.recipe.stages):
        ours = student if room.section(i) == room.recipe.student else room.student(i)
        theirs: Model | LiveTeacher | None = teacher
        if stage.more.get("taught_by") == "previous" and before is not None:
            theirs = before
        learners = room.learners(i)
        peers = replace(ours.shapes, members=sum(learner.peer for learner in learners) - 1)
        for path, learner in {learner.path: learner for learner in learners}.items():
            shapes, why = _trained(room, learner, ours, theirs)
            found += [Problem(f"{path}.methods", reason) for reason in why]
            found += _unfit(learner, path, shapes, peers if learner.peer else (theirs or ours).shapes)
        if stage.schedule.name == "step":
            found += _milestone_problems(stage.schedule.more["milestones"], f"stages.{i}.schedule.milestones")
        before = ours
    return found


def _trained(
    room: Classroom, learner: Learner, student: Model, teacher: Model | LiveTeacher | None
) -> tuple[Shapes, list[str]]:
    """The shapes of what a learner trains, and why it cannot be made."""
    if all(_factor(section) is None for section in learner.methods):
        return student.shapes, []
    try:
        with seeded(room.recipe.seed, "graft"):
            copied = replace(student, module=copy.deepcopy(student.module))
            return room.grafted(learner, copied, teacher).shapes, []
    except KdError as error:
        return student.shapes, [str(error)]


def _unfit(learner: Learner, path: str, student: Shapes, teacher: Shapes) -> list[Problem]:
    """Why methods cannot work between such models."""
    found = []
    for j, section in enumerate(learner.methods):
        plugin = find("methods", section.method)
        why = plugin(plugin.Knobs(**_knobs(section))).problems(student, teacher)
        found += [Problem(f"{path}.methods.{j}", reason) for reason in why]
    return found


def _go_on(trainee: Trainee, before: Alumnus) -> None:
    """Take over the parts of the methods that a student of that name goes on with."""
    for name, method in trainee.lesson.methods.items():
        mine, theirs = method.state_dict(), before.parts.get(name, {})
        if mine.keys() == theirs.keys() and all(mine[key].shape == theirs[key].shape for key in mine):
            method.load_state_dict(theirs)


def require(problems: list[Problem]) -> None:
    """RecipeError when there are any."""
    if problems:
        raise RecipeError(problems)


def _factor(section: MethodSection) -> int | None:
    """By how much a projector is narrowed, for a method that grafts; None for others."""
    plugin = find("methods", section.method)
    return int(plugin.Knobs(**_knobs(section)).factor) if plugin.grafts else None


def _knobs(section: Any) -> dict[str, Any]:
    return {**section.more, "weight": section.weight}


def _milestone_problems(text: str, path: str) -> list[Problem]:
    try:
        shares = milestones(text)
    except ValueError:
        return [Problem(path, f"got {text!r}, expected shares of the training such as 0.5,0.75")]
    bad = [share for share in shares if not 0 < share < 1]
    return [Problem(path, f"got {share:g}, expected a share between 0 and 1") for share in bad]

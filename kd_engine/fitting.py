"""Whether the parts of a recipe fit each other, asked with data and models at hand: which methods can work in
which stage, and why others cannot."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

from kd_engine.backend import seeded
from kd_engine.classroom import Classroom, factor_of, settings
from kd_engine.conflicts import mixing_refusal
from kd_engine.errors import KdError, Problem, RecipeError
from kd_engine.optim import milestones
from kd_engine.registry import discover, find
from kd_engine.signals import Shapes
from kd_engine.stages import Learner
from kd_engine.teacher import LiveTeacher, Model


@dataclass(frozen=True)
class Lessons:
    """Who meets whom in a stage of a recipe. peers: the shapes of what a learner among peers hears."""

    stage: int
    student: Model
    teacher: Model | LiveTeacher | None
    peers: Shapes

    def others(self, learner: Learner) -> Shapes:
        """The shapes of whom a learner hears: its own where there is nobody."""
        return self.peers if learner.peer else (self.teacher or self.student).shapes


def lessons(room: Classroom, student: Model, teacher: LiveTeacher | None) -> list[Lessons]:
    """Who learns from whom, stage by stage."""
    met: list[Lessons] = []
    for i, stage in enumerate(room.recipe.stages):
        ours = student if room.section(i) == room.recipe.student else room.student(i)
        previous = stage.more.get("taught_by") == "previous" and met
        members = sum(learner.peer for learner in room.learners(i)) - 1
        peers = replace(ours.shapes, members=members)
        met.append(Lessons(i, ours, met[-1].student if previous else teacher, peers))
    return met


def deep_problems(room: Classroom, student: Model, teacher: LiveTeacher | None) -> list[Problem]:
    """What only shows with data and models at hand: methods that cannot work between them, impossible
    settings."""
    return problems_in(room, lessons(room, student, teacher))


def problems_in(room: Classroom, met: list[Lessons]) -> list[Problem]:
    """See `deep_problems`; met: what `lessons` told."""
    found: list[Problem] = []
    for lesson, stage in zip(met, room.recipe.stages, strict=True):
        for path, learner in {learner.path: learner for learner in room.learners(lesson.stage)}.items():
            shapes, why = _trained(room, learner, lesson.student, lesson.teacher)
            found += [Problem(f"{path}.methods", reason) for reason in why]
            found += _unfit(learner, path, shapes, lesson.others(learner))
        if stage.schedule.name == "step":
            path = f"stages.{lesson.stage}.schedule.milestones"
            found += _milestone_problems(stage.schedule.more["milestones"], path)
    return found


def refusals(room: Classroom, lesson: Lessons) -> dict[str, str]:
    """Why methods, each with its defaults, cannot work in a stage; only those that cannot."""
    mixes = room.recipe.data.mix != "none"
    learner = room.learners(lesson.stage)[0]
    told = {}
    plugins: dict[str, Any] = discover("methods").plugins
    for name, plugin in plugins.items():
        if plugin.unavailable() is not None:
            continue
        method = plugin(plugin.Knobs())
        why = method.problems(lesson.student.shapes, lesson.others(learner))
        if method.needs_teacher and lesson.teacher is None and not learner.peer:
            why = ["it needs a teacher, and this recipe has none"]
        if method.grafts and learner.peer:
            why = ["it needs the classifier of a teacher that is trained, and peers are not"]
        mixed = mixing_refusal(name, method.hard_targets, method.knobs.model_dump()) if mixes else None
        if mixed is not None:
            why = [*why, mixed.message]
        if why:
            told[name] = "; ".join(why)
    return told


def _trained(
    room: Classroom, learner: Learner, student: Model, teacher: Model | LiveTeacher | None
) -> tuple[Shapes, list[str]]:
    """The shapes of what a learner trains, and why it cannot be made."""
    if all(factor_of(section) is None for section in learner.methods):
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
        why = plugin(plugin.Knobs(**settings(section))).problems(student, teacher)
        found += [Problem(f"{path}.methods.{j}", reason) for reason in why]
    return found


def require(problems: list[Problem]) -> None:
    """RecipeError when there are any."""
    if problems:
        raise RecipeError(problems)


def _milestone_problems(text: str, path: str) -> list[Problem]:
    try:
        shares = milestones(text)
    except ValueError:
        return [Problem(path, f"got {text!r}, expected shares of the training such as 0.5,0.75")]
    bad = [share for share in shares if not 0 < share < 1]
    return [Problem(path, f"got {share:g}, expected a share between 0 and 1") for share in bad]

"""What a recipe is about, before it runs: problems that only show with data and models at hand, figures, and
the strip of samples.

The desktop asks at every edit, and most edits change neither data nor models. So the last data, models,
costs and samples are kept, each under all that it depends on: a kept value is the one that would be made.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from kd_engine import catalog, evaluate, graft, paths, snapshots, weights
from kd_engine.check import check
from kd_engine.classroom import Classroom, load_data
from kd_engine.data import Data
from kd_engine.errors import KdError, Problem, RecipeError
from kd_engine.events import STUDENT
from kd_engine.final import EVALUATION
from kd_engine.fitting import Lessons, lessons, problems_in, refusals
from kd_engine.gallery import Gallery
from kd_engine.models import count_parameters
from kd_engine.recipe import DataSection, ModelSection, Recipe
from kd_engine.registry import find
from kd_engine.teacher import LiveTeacher, Model

STRIPS = 8  # files of samples that are kept: who asked before may still be reading the last one

Value = TypeVar("Value")
_kept: dict[str, tuple[Hashable, Any]] = {}  # the last value of each kind, and what it was made from


def describe(recipe: Mapping[str, Any], runs: Path) -> dict[str, Any]:
    """See kd_engine.answers.describe."""
    problems = check(recipe, catalog.load())
    if problems:
        return {"problems": [asdict(problem) for problem in problems]}
    told: dict[str, Any] = {}
    try:
        problems = list(_look(Recipe.from_document(recipe), runs, told))
    except RecipeError as error:
        problems = list(error.problems)
    except KdError as error:
        problems = [Problem("", str(error))]
    return {**told, "problems": [asdict(problem) for problem in problems]}


def _look(recipe: Recipe, runs: Path, told: dict[str, Any]) -> list[Problem]:
    """Fill in `told` as far as it goes; returns the problems between methods and models."""
    room = Classroom(recipe, runs, data=_data(recipe.data))
    told["data"] = _about_data(room)
    teacher = None
    if recipe.teacher is not None:
        teacher = LiveTeacher(_model(room, recipe.teacher, "teacher"), room.backend)
    student = _model(room, recipe.student, "student")
    if teacher is not None and recipe.teacher is not None:
        told["teacher"] = _about_model(room, recipe.teacher, teacher, "teacher")
    told["student"] = _about_model(room, recipe.student, student, "student")
    told["data"]["notes"] += room.notes
    told["samples"] = _samples(room, teacher, student)
    met = lessons(room, student, teacher)
    told["methods"] = [refusals(room, lesson) for lesson in met]
    told |= _about_assistants(room, met)
    return problems_in(room, met)


def _once(kind: str, key: Hashable, make: Callable[[], Value]) -> Value:
    """The kept value of this kind when it was made from the same, else a new one, kept in its place."""
    if kind not in _kept or _kept[kind][0] != key:
        _kept.pop(kind, None)  # first, so that two large ones are never held at once
        _kept[kind] = (key, make())
    value: Value = _kept[kind][1]
    return value


def _data(section: DataSection) -> Data:
    """Files of the user's may change under the same name: what is read from a `path` is read each time."""
    if "path" in section.more:
        return load_data(section)
    return _once("data", (section, paths.datasets()), lambda: load_data(section))


def _model(room: Classroom, section: ModelSection, role: str) -> Model:
    def make() -> tuple[Model, list[str]]:
        before = len(room.notes)
        model = room.model(section, role)
        return model, room.notes[before:]

    known = len(room.notes)
    model, notes = _once(role, _model_key(room, section), make)
    room.notes[known:] = notes
    return model


def _model_key(room: Classroom, section: ModelSection) -> Hashable:
    file = _file(room, section)
    stamp = (
        (str(file), file.stat().st_mtime_ns, file.stat().st_size) if file and file.is_file() else str(file)
    )
    recipe, data = room.recipe, room.data
    return section, stamp, recipe.seed, recipe.hardware, data.classes, data.size, data.mean, data.std


def _file(room: Classroom, section: ModelSection) -> Path | None:
    if section.weights is None or weights.is_published(section.weights):
        return None
    return weights.locate(section.weights, room.runs)


def _about_data(room: Classroom) -> dict[str, Any]:
    data = room.data
    return {
        "title": find("datasets", room.recipe.data.dataset).title,
        "classes": list(data.classes),
        "train": len(data.train),
        "validation": len(data.validation),
        "test": len(data.test),
        "labelled": int(data.labelled.sum()),
        "size": data.size,
        "notes": list(data.notes),
    }


def _about_model(
    room: Classroom, section: ModelSection, model: Model | LiveTeacher, role: str
) -> dict[str, Any]:
    """model, weights, parameters, macs, bytes, latency_ms_p50, and top1 on the test part where its card or
    its run tells."""

    def cost() -> dict[str, Any]:
        quick = evaluate.latency(model.module, room.data.size, room.backend, repeats=10)
        return {
            **evaluate.cost(model.module, room.data.size),
            "latency_ms_p50": quick["latency_ms_p50"],
        }

    architecture = section.model_copy(update={"weights": None})
    changed = str(graft.described(model.module))
    key = architecture, changed, len(room.data.classes), room.data.size, room.recipe.hardware
    return {
        "model": section.model,
        "weights": section.weights,
        "top1": _top1(room, section, model),
        **_once(f"cost of {role}", key, cost),
    }


def _about_assistants(room: Classroom, met: list[Lessons]) -> dict[str, dict[str, Any]]:
    """By place ("stages.0.student"), the models that stages train as assistants: model, parameters."""
    told = {}
    for lesson, stage in zip(met, room.recipe.stages, strict=True):
        if stage.student is not None:
            parameters = count_parameters(lesson.student.module)
            told[f"stages.{lesson.stage}.student"] = {"model": stage.student.model, "parameters": parameters}
    return told


def _top1(room: Classroom, section: ModelSection, model: Model | LiveTeacher) -> float | None:
    told = (model.card or {}).get("figures", {}).get("top1")
    file = _file(room, section)
    if told is None and file is not None:
        told = _of_run(file)
    return told if isinstance(told, float) else None


def _of_run(file: Path) -> Any:
    """What a finished run measured of its own weights."""
    try:
        measured = json.loads(file.with_name(EVALUATION).read_text(encoding="utf-8"))
        return measured[f"{STUDENT}/{file.stem}"]["top1"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no run's folder, or a run that did not end


def _samples(room: Classroom, teacher: LiveTeacher | None, student: Model) -> str:
    """The strip's pictures, in a file of the user's cache."""
    recipe = room.recipe
    taught_by = _model_key(room, recipe.teacher) if recipe.teacher is not None else None
    key = room.data.fingerprint, recipe.data, taught_by, recipe.student, paths.cache()
    name = _once("samples", key, lambda: _sample_file(Gallery(room, teacher, student)))
    if not Path(name).is_file():
        del _kept["samples"]
        return _samples(room, teacher, student)
    return name


def _sample_file(gallery: Gallery) -> str:
    folder = paths.cache() / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".npz", dir=folder)
    os.close(handle)
    for old in sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_mtime)[:-STRIPS]:
        old.unlink(missing_ok=True)
    snapshots.save(Path(name), gallery.samples())
    return name

"""Questions outside a running session: describe a recipe, look at, evaluate and export a stored run.

The command line and the engine's own process ask them here. Every answer is plain values; arrays go by file
name.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kd_engine import card as cards
from kd_engine import catalog, evaluate, paths, snapshots
from kd_engine.check import check
from kd_engine.classroom import Classroom, deep_problems
from kd_engine.commands import AskProbe
from kd_engine.deploy import Deployed
from kd_engine.errors import KdError, Problem, RecipeError
from kd_engine.events import STUDENT
from kd_engine.final import EVALUATION, examine
from kd_engine.gallery import Gallery, keep
from kd_engine.recipe import ModelSection, Recipe
from kd_engine.registry import find
from kd_engine.store import BEST, LAST, RunFolder, Store
from kd_engine.teacher import LiveTeacher, Model


def describe(recipe: Mapping[str, Any], runs: Path | None = None) -> dict[str, Any]:
    """What a recipe is about, before it runs: problems (path, message) with data and models at hand, and,
    as far as there are none in the way, `data`, `teacher`, `student` and `samples` (an .npz, see
    kd_engine.snapshots)."""
    problems = check(recipe, catalog.load())
    if problems:
        return {"problems": [asdict(problem) for problem in problems]}
    told: dict[str, Any] = {}
    try:
        room = Classroom(Recipe.from_document(recipe), _runs(runs))
        told["data"] = _about_data(room)
        teacher, student = room.teacher(), room.student()
        problems = deep_problems(room, student, teacher)
        if teacher is not None and room.recipe.teacher is not None:
            told["teacher"] = _about_model(room, room.recipe.teacher, teacher)
        told["student"] = _about_model(room, room.recipe.student, student)
        told["data"]["notes"] += room.notes
        told["samples"] = _sample_file(Gallery(room, teacher, student))
    except RecipeError as error:
        problems = list(error.problems)
    except KdError as error:
        problems = [Problem("", str(error))]
    return {**told, "problems": [asdict(problem) for problem in problems]}


def probe(
    run: str | Path,
    runs: Path | None,
    probe: str,
    sample: int,
    tap: str = "auto",
    part: str = "validation",
    which: str = "last",
    out: Path | None = None,
) -> dict[str, Any]:
    """What a probe sees in a stored run: path (an .npz, as ProbeReady's) and numbers. which: last or best
    weights."""
    folder = Store(runs).open(run)
    room = Classroom(Recipe.from_document(folder.recipe()), _runs(runs))
    teacher, student = room.teacher(), trained(room, folder, which)
    if part == "validation" and not len(room.data.validation):
        part = "train"
    question = AskProbe(probe, sample, tap, part=part)
    arrays, numbers = Gallery(room, teacher, student).probe(question, student.module, student.taps)
    if out is None:
        path = keep(folder, f"probes/{probe}_{part}_{sample}_{tap}_{which}.npz", arrays)
    else:
        snapshots.save(out, arrays)
        path = str(out)
    return {"path": path, "numbers": numbers}


def evaluate_run(run: str | Path, runs: Path | None = None) -> dict[str, Any]:
    """All figures of a stored run's student, last and best weights, and its teacher, measured anew on the
    test part."""
    folder = Store(runs).open(run)
    room = Classroom(Recipe.from_document(folder.recipe()), _runs(runs))
    teacher = room.teacher()
    figures: dict[str, Any] = {}
    answers = None
    if teacher is not None:
        answers = evaluate.predict(teacher.module, room.batches("test"), room.backend)
        figures["teacher"] = examine(room, teacher.module, answers, None, with_latency=True)
    for which, file in (("last", LAST), ("best", BEST)):
        if folder.path(file).is_file():
            figures[which] = _examine_student(room, trained(room, folder, which), answers)
    if not {"last", "best"} & set(figures):
        raise KdError(
            f"{folder.name}: this run has no weights yet.", "Resume it, or wait for its first epoch."
        )
    return figures


def evaluate_model(
    model: str, file: str, data: Mapping[str, Any], knobs: Mapping[str, Any]
) -> dict[str, Any]:
    """All figures of a model from a checkpoint file on the test part of some data."""
    document = {
        "name": "evaluate",
        "data": dict(data),
        "student": {"model": model, "weights": file, **knobs},
        "stages": [{"stage": "train"}],
    }
    room = Classroom(Recipe.from_document(document), paths.runs())
    return _examine_student(room, room.student(), None)


def export(
    run: str | Path, runs: Path | None, format: str, path: Path, which: str = "last"
) -> dict[str, Any]:
    """Write a stored run's student for others: path, card_path (Markdown beside it), bytes, and code, the
    three lines that load it."""
    exporter = find("exporters", format)
    folder = Store(runs).open(run)
    recipe = Recipe.from_document(folder.recipe())
    room = Classroom(recipe, _runs(runs))
    student = trained(room, folder, which)
    path = path.expanduser()
    if path.is_dir():
        raise KdError(
            f"{path}: is a folder.", f"Name a file in it, such as {path / ('student' + exporter.suffix)}."
        )
    card = cards.make(
        recipe.student,
        room.data,
        name=path.stem,
        note=_origin(recipe, folder, which),
        trained_on=_trained_on(room),
        figures=_figures(folder, which),
        recipe=recipe.document(),
    )
    module = Deployed(student.module.cpu(), card).eval()
    exporter.export(module, card, path, exporter.Knobs())
    code = exporter.load_code(path, card)
    card_path = path.with_suffix(".md")
    card_path.write_text(cards.to_markdown(card, code), encoding="utf-8")
    return {"path": str(path), "card_path": str(card_path), "bytes": path.stat().st_size, "code": code}


def trained(room: Classroom, folder: RunFolder, which: str) -> Model:
    """The student of a stored run with its last or best weights. KdError when it has none."""
    if which not in ("last", "best"):
        raise KdError(f"no weights '{which}'.", "There are last, and best (on validation).")
    file = folder.path(LAST if which == "last" else BEST)
    if not file.is_file():
        raise KdError(f"{folder.name}: no {which} weights yet.", "They appear after the first epoch.")
    return room.model(room.recipe.student.model_copy(update={"weights": str(file)}), "student")


def _runs(runs: Path | None) -> Path:
    return runs if runs is not None else paths.runs()


def _examine_student(room: Classroom, student: Model, teacher: np.ndarray | None) -> dict[str, Any]:
    logits = evaluate.predict(student.module, room.batches("test"), room.backend)
    return examine(room, student.module, logits, teacher, with_latency=True)


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


def _about_model(room: Classroom, section: ModelSection, model: Model | LiveTeacher) -> dict[str, Any]:
    """model, parameters, macs, bytes, latency_ms_p50, and top1 on the test part where its card tells."""
    module = model.module
    figures = (model.card or {}).get("figures", {})
    return {
        "model": section.model,
        "weights": section.weights,
        "top1": figures.get("top1"),
        **evaluate.cost(module, room.data.size),
        "latency_ms_p50": evaluate.latency(module, room.data.size, room.backend, repeats=10)[
            "latency_ms_p50"
        ],
    }


def _sample_file(gallery: Gallery) -> str:
    """The pictures of the strip in a file of the user's cache; one file, made anew at each question."""
    folder = paths.cache() / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".npz", dir=folder)
    os.close(handle)
    for old in sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_mtime)[:-8]:
        old.unlink(missing_ok=True)
    snapshots.save(Path(name), gallery.samples())
    return name


def _origin(recipe: Recipe, folder: RunFolder, which: str) -> str:
    """One sentence on where a student comes from."""
    weights_are = "its last weights" if which == "last" else "the weights of its best epoch on validation"
    taught = f"distilled from {recipe.teacher.model}" if recipe.teacher else "trained on labels"
    return f"{recipe.student.model}, {taught}, in the run {folder.name} ({weights_are})."


def _trained_on(room: Classroom) -> str:
    data = room.data
    return f"{room.recipe.data.dataset}: {len(data.train)} images, {int(data.labelled.sum())} with a label"


def _figures(folder: RunFolder, which: str) -> dict[str, Any]:
    """The test figures that a finished run wrote down for these weights; empty when it did not finish."""
    metrics = (folder.read_json(EVALUATION) or {}).get(f"{STUDENT}/{which}", {})
    return {name: value for name, value in metrics.items() if isinstance(value, (int, float))}

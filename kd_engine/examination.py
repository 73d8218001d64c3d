"""Measure the models of a stored run, or one from a file, on the test part, and remember what that told.

What the run measured at its end stands in evaluation.json and stays as it is. What was measured later
(corrupted images, throughput, memory, energy) is kept beside it, in measured.json, when the run is over and
its data still give the accuracies that it found: {"machine": {...}, "models": {"NAME/WEIGHTS": figures}}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from kd_engine import card, energy, evaluate
from kd_engine.batches import Batches
from kd_engine.classroom import Classroom
from kd_engine.corruptions import CORRUPTIONS, corrupted
from kd_engine.errors import KdError, StoreError
from kd_engine.events import STUDENT
from kd_engine.final import EVALUATION, examine
from kd_engine.recipe import ModelSection, Recipe
from kd_engine.store import BEST, LAST, SUMMARY, RunFolder
from kd_engine.teacher import Model

MEASURED = "measured.json"
TEACHER = "teacher/last"
FILES = {f"{STUDENT}/last": LAST, f"{STUDENT}/best": BEST}
MACHINE = ("device", "device_name", "threads")

ROBUST = (*(f"top1_{name}" for name in CORRUPTIONS), "top1_corrupted")
CLOSE = ("agreement", "kl", "retention", "gaps")
OWN = ("top1", "top5", "nll", "ece", "samples", "macro", "per_class", "confusion", "calibration")


@dataclass(frozen=True)
class Examination:
    """models: "NAME/WEIGHTS" to figures. notes: what the user should hear of data, models and the disk."""

    models: dict[str, dict[str, Any]]
    classes: list[str]
    notes: list[str]


def of_run(folder: RunFolder, runs: Path, robust: bool, costs: bool) -> Examination:
    """A stored run's teacher and its student, last and best weights, measured anew. Rivals' weights are not
    kept. KdError without weights."""
    recipe = Recipe.from_document(folder.recipe())
    files = {name: folder.path(file) for name, file in FILES.items() if folder.path(file).is_file()}
    if not files:
        raise KdError(
            f"{folder.name}: this run has no weights yet.", "Resume it, or wait for its first epoch."
        )
    room = Classroom(recipe, runs)
    modules: dict[str, nn.Module] = {}
    if (teacher := room.teacher()) is not None:
        modules[TEACHER] = teacher.module
    for name, file in files.items():
        modules[name] = student(room, file).module
    made = measure(room, modules, robust, costs)
    return Examination(made.models, made.classes, [*made.notes, *_keep(folder, room, made)])


def student(room: Classroom, file: Path) -> Model:
    """The student whose weights a run keeps in `file`. Stages may train models of their own: which one it
    is, its card says; without a card it is the last stage's."""
    made = card.read(file)
    if made is None:
        section = room.section(len(room.recipe.stages) - 1)
        return room.model(section.model_copy(update={"weights": str(file)}), STUDENT)
    return room.model(ModelSection(model=made["model"], weights=str(file), **made["knobs"]), STUDENT)


def measure(room: Classroom, modules: Mapping[str, nn.Module], robust: bool, costs: bool) -> Examination:
    """All figures of models by name, the teacher's (under TEACHER) first: those of final.examine; robust: the
    accuracies of `robustness`; costs: latency, and evaluate.pace, once for all weights of a student."""
    answers = None
    paces: dict[str, dict[str, Any]] = {}
    models = {}
    for name, module in modules.items():
        logits = evaluate.predict(module, room.batches("test"), room.backend)
        models[name] = examine(room, module, logits, answers, with_latency=costs)
        if name == TEACHER:
            answers = logits
        if costs:
            who = name.partition("/")[0]
            paces[who] = paces[who] if who in paces else _pace(room, module)
            models[name] |= paces[who]
    if robust:
        for name, found in robustness(room, modules).items():
            models[name] |= found
    notes = list(dict.fromkeys([*room.data.notes, *room.notes]))
    return Examination(models, list(room.data.classes), notes)


def robustness(room: Classroom, modules: Mapping[str, nn.Module]) -> dict[str, dict[str, float]]:
    """By model: accuracy on the test part under each corruption, `top1_NAME`, and their mean,
    `top1_corrupted`."""
    data, found = room.data, {name: dict[str, float]() for name in modules}
    for corruption in CORRUPTIONS:
        spoilt = corrupted(data.test, corruption)
        batches = Batches(spoilt, data.mean, data.std, device=room.backend.device)
        for name, module in modules.items():
            logits = evaluate.predict(module, batches, room.backend)
            found[name][f"top1_{corruption}"] = float((logits.argmax(-1) == spoilt.labels).mean())
    for told in found.values():
        told["top1_corrupted"] = float(np.mean(list(told.values())))
    return found


def told(folder: RunFolder, robust: bool) -> Examination | None:
    """What is already known of a finished run, rivals included; None when something is missing."""
    stored = folder.read_json(EVALUATION) or {}
    later = (folder.read_json(MEASURED) or {}).get("models", {})
    made = card.read(folder.path(LAST)) if folder.path(LAST).is_file() else None
    if made is None or folder.status() != "done":
        return None
    models = {name: {**later.get(name, {}), **figures} for name, figures in stored.items()}
    taught = folder.recipe().get("teacher") is not None
    names = [name for name, file in FILES.items() if folder.path(file).is_file()]
    for name in [TEACHER, *names] if taught else names:
        close = CLOSE if taught and name != TEACHER else ()
        wanted = ("top1", "ece", "calibration", *close, *(ROBUST if robust else ()))
        if any(figure not in models.get(name, {}) for figure in wanted):
            return None
    return Examination(models, list(made["classes"]), [])


def protocol(folder: RunFolder, models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Under which rules a run's figures came about: part, images, dataset, seed, runs (how many: one),
    status, epochs (done; None while unknown), best_epoch, chosen_by (None without a validation part) and all
    of it in words, text."""
    recipe, summary = folder.recipe(), folder.read_json(SUMMARY) or {}
    status = folder.status()
    done = status == "done"
    best = (summary.get("best_validation") or {}).get(STUDENT) or {}
    facts = {
        "part": "test",
        "images": next(iter(models.values()))["samples"],
        "dataset": recipe["data"]["dataset"],
        "seed": recipe.get("seed", 0),
        "runs": 1,
        "status": status,
        "epochs": summary.get("epochs") if done else None,
        "best_epoch": best.get("epoch") if done else None,
        "chosen_by": "validation" if best.get("top1") is not None else None,
    }
    return {**facts, "text": _in_words(facts, "student/best" in models)}


def of_file(weights: str, data: Mapping[str, Any], images: int) -> dict[str, Any]:
    """As `protocol`, for a model from a file."""
    text = (
        f"Protocol: {weights}, as it is, on {images:,} images of the test part of {data['dataset']}. What it "
        "was trained on, and whether that part had a share in it, is not known here."
    )
    return {"part": "test", "images": images, "dataset": data["dataset"], "runs": 1, "text": text}


def _in_words(facts: Mapping[str, Any], best: bool) -> str:
    if facts["status"] != "done":
        weights = "last: the weights of the latest checkpoint; the run has not ended, and whoever steers it "
        weights += "by these figures spends the test part"
    else:
        weights = f"last: the weights after the last epoch ({facts['epochs']})"
    if best and facts["status"] == "done":
        chosen = facts["chosen_by"] is not None
        why = "the best on the validation part" if chosen else "the last, without a validation part to choose"
        weights += f"; best: those of epoch {facts['best_epoch']}, {why}"
    return (
        f"Protocol: {weights}. On {facts['images']:,} images of the test part of {facts['dataset']}, "
        "none of which took part in training or in choosing an epoch. "
        f"One run, seed {facts['seed']}: no spread over seeds is known."
    )


def _pace(room: Classroom, module: nn.Module) -> dict[str, Any]:
    batches = room.batches("test")
    inputs = batches.inputs(np.arange(min(evaluate.BATCH, len(batches))))
    counter = energy.counter(room.backend.device)
    return evaluate.pace(module, room.backend.lay_out(inputs), room.backend, counter)


def _keep(folder: RunFolder, room: Classroom, made: Examination) -> list[str]:
    """Remember what evaluation.json does not tell. Returns what the user should hear of it."""
    stored = folder.read_json(EVALUATION)
    if stored is None or folder.status() != "done":
        return []
    moved = [name for name, found in made.models.items() if found["top1"] != stored.get(name, {}).get("top1")]
    if moved:
        return [f"{name} no longer measures as at the run's end: data or teacher changed." for name in moved]
    before = (folder.read_json(MEASURED) or {}).get("models", {})
    models = {
        name: {**before.get(name, {}), **{k: v for k, v in found.items() if k not in stored[name]}}
        for name, found in made.models.items()
    }
    machine = room.backend.environment()
    try:
        folder.write_json(MEASURED, {"machine": {name: machine[name] for name in MACHINE}, "models": models})
    except StoreError as error:  # a copy on a disk that cannot be written can still be measured
        return [f"What was measured is not kept: {error}"]
    return []

"""Questions outside a running session: describe a recipe, look at, evaluate and export a stored run.

The command line and the engine's own process ask them here. Every answer is plain values; arrays go by file
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kd_engine import card as cards
from kd_engine import catalog, examination, paths, preview, snapshots
from kd_engine.check import check
from kd_engine.classroom import Classroom
from kd_engine.commands import AskProbe
from kd_engine.deploy import load_model
from kd_engine.disk import replacing, told
from kd_engine.document import complete
from kd_engine.errors import KdError, RecipeError
from kd_engine.events import STUDENT, KnobChanged
from kd_engine.exporters import Exporter
from kd_engine.final import EVALUATION
from kd_engine.gallery import Gallery, keep
from kd_engine.recipe import ModelSection, Recipe
from kd_engine.registry import find
from kd_engine.store import BEST, ENVIRONMENT, LAST, RunFolder, Store

FILES = ("data.path", "teacher.weights", "student.weights")
OURS = "kd-studio"  # stands in every model card that we write
MACHINE = ("device", "device_name", "threads")


def describe(recipe: Mapping[str, Any], runs: Path | None = None) -> dict[str, Any]:
    """What a recipe is about, before it runs: problems (path, message) with data and models at hand, and,
    as far as there are none in the way, `data`, `teacher`, `student`, `samples` (an .npz, see
    kd_engine.snapshots), `methods`: for each stage those that cannot work in it, by name, and why, and, by
    place ("stages.0.student"), the assistants that stages train."""
    return preview.describe(recipe, _runs(runs))


def probe(
    run: str | Path,
    runs: Path | None,
    probe: str,
    sample: int,
    tap: str = "auto",
    part: str = "validation",
    which: str = "last",
    out: str | Path | None = None,
) -> dict[str, Any]:
    """What a probe sees in a stored run: path (an .npz, as ProbeReady's, with `label` and `classes`),
    numbers, and label (the sample's class) and classes. which: last or best weights."""
    folder = Store(runs).open(run)
    recipe = Recipe.from_document(folder.recipe())
    file = _weights(folder, which)
    room = Classroom(recipe, _runs(runs))
    teacher, student = room.teacher(), examination.student(room, file)
    if part == "validation" and not len(room.data.validation):
        part = "train"
    question = AskProbe(probe, sample, tap, part=part)
    arrays, numbers = Gallery(room, teacher, student).probe(question, student.module, student.taps)
    label = int(getattr(room.data, part).labels[sample])
    arrays |= {"label": np.array(label), "classes": np.array(room.data.classes)}
    if out is None:
        path = keep(folder, f"probes/{probe}_{part}_{sample}_{tap}_{which}.npz", arrays)
    else:
        path = str(out)
        with replacing(Path(out)) as temporary:
            snapshots.save(temporary, arrays)
    classes = room.data.classes
    return {"path": path, "numbers": numbers, "label": classes[label], "classes": list(classes)}


def evaluate(run: str | Path, runs: Path | None = None, robust: bool = False) -> dict[str, Any]:
    """What is to be seen of a run's models on the test part: the desktop's question.

    Answered from what the run measured at its end, and from what was measured later, without loading data or
    models. What is not known yet (a run that has not ended, or is older than a figure; `robust`, asked for
    the first time) is measured now, which takes as long as a pass over the test part, five with `robust`,
    for teacher and student; see kd_engine.examination for what is kept. KdError without weights.

    classes: names, in the order of all that is by class. notes: what the user should hear. protocol: see
    examination.protocol; its `text` belongs under every table. models: by "NAME/WEIGHTS" ("teacher/last",
    "student/last", "student/best", "RIVAL/last"; in that order, as far as they exist), each with all of:

    - top1, top5 (None with five classes or fewer), nll (nats), ece, samples (int), macro {precision, recall,
      f1}: fractions.
    - per_class: [{precision, recall, f1, support}] by class.
    - confusion: C lists of C counts, rows are true classes, columns predictions; None above 200 classes.
    - calibration: 15 bins [{low, high, count, confidence, accuracy}], the last two None where count is 0.
    - agreement, kl (nats), retention, gaps: [student's recall minus the teacher's] by class, None for a class
      without a sample. All four None for the teacher, and where there is none.
    - top1_noise, top1_blur, top1_contrast, top1_jpeg, top1_corrupted (their mean): None until `robust` was
      asked for, and for rivals, whose weights are not kept.

    A figure that is no number is NaN; one that an older version did not measure, and of which no weights are
    left to measure it on, is None. Other figures of evaluation.json and measured.json (parameters, macs,
    images_per_s, ...) are there under their names where they were measured.
    """
    folder = Store(runs).open(run)
    found = examination.told(folder, robust)
    if found is None:
        found = examination.of_run(folder, _runs(runs), robust, costs=False)
        if (whole := examination.told(folder, robust)) is not None:  # with rivals, and what was known before
            found = replace(whole, notes=found.notes)
    names = (*examination.OWN, *examination.CLOSE, *examination.ROBUST)
    return {
        "models": {name: {**dict.fromkeys(names), **told} for name, told in found.models.items()},
        "classes": found.classes,
        "notes": found.notes,
        "protocol": examination.protocol(folder, found.models),
    }


def evaluate_run(run: str | Path, runs: Path | None = None, robust: bool = False) -> dict[str, Any]:
    """A stored run's student, `last` and `best` weights, and its `teacher`, measured anew on the test part:
    figures (by name: all of final.examine, latency, evaluate.pace, with `robust` examination.robustness, and
    `protocol`), classes, notes (what the user should hear of data and models) and protocol (in words)."""
    folder = Store(runs).open(run)
    found = examination.of_run(folder, _runs(runs), robust, costs=True)
    short = {f"{STUDENT}/last": "last", f"{STUDENT}/best": "best", examination.TEACHER: "teacher"}
    figures = {short[name]: metrics for name, metrics in found.models.items()}
    return _evaluated(figures, found, examination.protocol(folder, found.models))


def evaluate_model(
    model: str, file: str, data: Mapping[str, Any], knobs: Mapping[str, Any], robust: bool = False
) -> dict[str, Any]:
    """A model from a checkpoint file on the test part of some data: as evaluate_run, with figures under the
    model's name."""
    document = {
        "name": "evaluate",
        "data": dict(data),
        "student": {"model": model, "weights": file, **knobs},
        "stages": [{"stage": "train"}],
    }
    room = Classroom(Recipe.from_document(document), paths.runs())
    found = examination.measure(room, {model: room.student().module}, robust, costs=True)
    return _evaluated(found.models, found, examination.of_file(file, data, len(room.data.test)))


def export(
    run: str | Path, runs: Path | None, format: str, path: Path, which: str = "last"
) -> dict[str, Any]:
    """Write a stored run's student for others: path, card_path (Markdown beside it), bytes, and code, the
    three lines that load it.

    Needs nothing but the run's folder: neither its data nor its teacher has to be there any more.
    """
    exporter: type[Exporter] = find("exporters", format)
    folder = Store(runs).open(run)
    recipe = _recipe(folder)
    file = _weights(folder, which)
    path, card_path = _places(path, exporter)
    module = load_model(file)
    card = {**module.card, **_facts(recipe, folder, which), "name": path.stem}
    module.card = card
    exporter.export(module, card, path, exporter.Knobs())
    code = exporter.load_code(path, card)
    with replacing(card_path) as temporary:
        temporary.write_text(cards.to_markdown(card, code), encoding="utf-8")
    return {"path": str(path), "card_path": str(card_path), "bytes": path.stat().st_size, "code": code}


def _recipe(folder: RunFolder) -> Recipe:
    """The recipe of a stored run, although the files that it names may be gone."""
    document, known = folder.recipe(), catalog.load()
    if problems := [problem for problem in check(document, known) if problem.path not in FILES]:
        raise RecipeError(problems)
    return Recipe(**complete(document, known))


def _places(path: Path, exporter: type[Exporter]) -> tuple[Path, Path]:
    """Where the export and its card go. KdError when something else is there, or the name does not fit."""
    with told(path):
        path = path.expanduser()
        if path.is_dir():
            way = f"Name a file in it, such as {path / ('student' + exporter.suffix)}."
            raise KdError(f"{path}: is a folder.", way)
        if path.suffix != exporter.suffix and path.suffix:
            way = f"Name it {path.with_suffix(exporter.suffix)}."
            raise KdError(f"{path}: a {exporter.name} file ends in {exporter.suffix}.", way)
        path = path.with_suffix(exporter.suffix).resolve()
        if not _is_text(str(path)):
            raise KdError(f"{str(path)!r}: the name holds bytes that are no letters.", "Choose another name.")
        card_path = path.with_suffix(".md")
        if card_path.exists() and not (card_path.is_file() and OURS in card_path.read_text(errors="replace")):
            raise KdError(
                f"{card_path}: is there already and is no model card; the card would replace it.",
                "Choose another name for the export.",
            )
    return path, card_path


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _weights(folder: RunFolder, which: str) -> Path:
    """The file with a stored run's last or best weights. KdError when it has none."""
    if which not in ("last", "best"):
        raise KdError(f"no weights '{which}'.", "There are last, and best (on validation).")
    file = folder.path(LAST if which == "last" else BEST)
    if not file.is_file():
        raise KdError(f"{folder.name}: no {which} weights yet.", "They appear after the first epoch.")
    return file


def _runs(runs: Path | None) -> Path:
    return runs if runs is not None else paths.runs()


def _evaluated(
    figures: dict[str, dict[str, Any]], found: examination.Examination, protocol: dict[str, Any]
) -> dict[str, Any]:
    return {
        "figures": {name: {**metrics, "protocol": protocol} for name, metrics in figures.items()},
        "classes": found.classes,
        "notes": found.notes,
        "protocol": protocol["text"],
    }


def _facts(recipe: Recipe, folder: RunFolder, which: str) -> dict[str, Any]:
    """What a run's folder tells about its student, for the card."""
    measured = (folder.read_json(EVALUATION) or {}).get(f"{STUDENT}/{which}", {})
    figures = {name: value for name, value in measured.items() if isinstance(value, (int, float))}
    machine = folder.read_json(ENVIRONMENT) or {}
    changes = [
        {"step": event.step, "path": event.path, "old": event.old, "new": event.new}
        for event in folder.events()
        if isinstance(event, KnobChanged)
    ]
    return {
        "title": f"{recipe.student.model}: {recipe.name}",
        "note": _origin(recipe, folder, which),
        "run": folder.name,
        "weights": which,
        "dataset": recipe.data.dataset,
        "figures": figures,
        "per_class": measured.get("per_class", []),
        "machine": {name: machine.get(name) for name in MACHINE},
        "changes": changes,
        "recipe": recipe.document(),
    }


def _origin(recipe: Recipe, folder: RunFolder, which: str) -> str:
    """Where a student comes from, in sentences."""
    summary = folder.read_json("summary.json") or {}
    epochs = f"{summary.get('epochs', '?')} of {sum(stage.epochs for stage in recipe.stages)} epochs"
    best = (summary.get("best_validation") or {}).get(STUDENT) or {}
    if which == "last":
        kept = f"These are its last weights, after {epochs}."
    else:
        kept = f"These are the weights after epoch {best.get('epoch', '?')}, the best on the validation part."
    taught = "trained on labels"
    if recipe.teacher is not None:
        taught = f"distilled from {_named(recipe.teacher)}"
    return f"It was {taught}, in the run {folder.name}. {kept}"


def _named(section: ModelSection) -> str:
    weights = section.weights
    return f"{section.model} ({weights})" if weights and not Path(weights).is_absolute() else section.model

"""Questions outside a running session: describe a recipe, look at, evaluate and export a stored run.

The command line and the engine's own process ask them here. Every answer is plain values; arrays go by file
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_engine import card as cards
from kd_engine import catalog, evaluate, paths, preview, snapshots
from kd_engine.check import check
from kd_engine.classroom import Classroom
from kd_engine.commands import AskProbe
from kd_engine.deploy import load_model
from kd_engine.errors import KdError, RecipeError
from kd_engine.events import STUDENT, KnobChanged
from kd_engine.exporters import Exporter
from kd_engine.final import EVALUATION, examine
from kd_engine.gallery import Gallery, keep
from kd_engine.recipe import ModelSection, Recipe, complete
from kd_engine.registry import find
from kd_engine.store import BEST, ENVIRONMENT, LAST, RunFolder, Store, replacing, told
from kd_engine.teacher import Model

FILES = ("data.path", "teacher.weights", "student.weights")
OURS = "kd-studio"  # stands in every model card that we write
MACHINE = ("device", "device_name", "threads")


def describe(recipe: Mapping[str, Any], runs: Path | None = None) -> dict[str, Any]:
    """What a recipe is about, before it runs: problems (path, message) with data and models at hand, and,
    as far as there are none in the way, `data`, `teacher`, `student` and `samples` (an .npz, see
    kd_engine.snapshots)."""
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
    teacher, student = room.teacher(), _student(room, file)
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


def evaluate_run(run: str | Path, runs: Path | None = None) -> dict[str, Any]:
    """A stored run's student, last and best weights, and its teacher, measured anew on the test part:
    figures (by name), classes, and notes (what the user should hear of data and models)."""
    folder = Store(runs).open(run)
    recipe = Recipe.from_document(folder.recipe())
    files = {which: folder.path(file) for which, file in (("last", LAST), ("best", BEST))}
    files = {which: file for which, file in files.items() if file.is_file()}
    if not files:
        raise KdError(
            f"{folder.name}: this run has no weights yet.", "Resume it, or wait for its first epoch."
        )
    room = Classroom(recipe, _runs(runs))
    teacher = room.teacher()
    figures: dict[str, Any] = {}
    answers = None
    if teacher is not None:
        answers = evaluate.predict(teacher.module, room.batches("test"), room.backend)
        figures["teacher"] = examine(room, teacher.module, answers, None, with_latency=True)
    for which, file in files.items():
        figures[which] = _examine_student(room, _student(room, file), answers)
    return _evaluated(room, figures)


def evaluate_model(
    model: str, file: str, data: Mapping[str, Any], knobs: Mapping[str, Any]
) -> dict[str, Any]:
    """A model from a checkpoint file on the test part of some data: figures (by the model's name), classes
    and notes."""
    document = {
        "name": "evaluate",
        "data": dict(data),
        "student": {"model": model, "weights": file, **knobs},
        "stages": [{"stage": "train"}],
    }
    room = Classroom(Recipe.from_document(document), paths.runs())
    return _evaluated(room, {model: _examine_student(room, room.student(), None)})


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


def _student(room: Classroom, file: Path) -> Model:
    return room.model(room.recipe.student.model_copy(update={"weights": str(file)}), "student")


def _runs(runs: Path | None) -> Path:
    return runs if runs is not None else paths.runs()


def _examine_student(room: Classroom, student: Model, teacher: np.ndarray | None) -> dict[str, Any]:
    logits = evaluate.predict(student.module, room.batches("test"), room.backend)
    return examine(room, student.module, logits, teacher, with_latency=True)


def _evaluated(room: Classroom, figures: dict[str, Any]) -> dict[str, Any]:
    notes = [*room.data.notes, *room.notes]
    return {"figures": figures, "classes": list(room.data.classes), "notes": list(dict.fromkeys(notes))}


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

"""Recipes of every form go through the window unharmed: shown, edited elsewhere, given back as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kd_engine import catalog as catalogs
from kd_engine.catalog import Catalog
from kd_engine.document import complete, preset_files, read_document
from kd_engine.recipe import Recipe
from kd_gui.panels.experiment import ExperimentPanel
from kd_gui.state.draft import Draft
from tests.gui.hosting import show_inside

Document = dict[str, Any]
TEACHER = {"model": "resnet20", "weights": "bundled:digits-resnet20"}


def changed(**changes: Any) -> Document:
    return {**read_document("quickstart"), **changes}


def stage(**changes: Any) -> Document:
    return {**read_document("quickstart")["stages"][0], **changes}


def peers() -> Document:
    made = stage(stage="mutual", peers=3, methods=[{"method": "dml", "weight": 0.5}])
    return changed(teacher=None, stages=[made])


def assistant() -> Document:
    first = stage(student={"model": "resnet14", "shortcut": "A"}, rivals=[])
    return changed(stages=[first, stage(taught_by="previous")])


def born_again() -> Document:
    return changed(stages=[stage(rivals=[]), stage(taught_by="previous", start="fresh")])


def several_teachers() -> Document:
    return changed(more_teachers=[TEACHER, TEACHER], stages=[stage(methods=[{"method": "multi-teacher"}])])


def no_teacher() -> Document:
    return changed(teacher=None, stages=[stage(methods=[{"method": "byot"}, {"method": "tf-kd"}])])


def prepared() -> Document:
    first = stage(label_weight=0.0, methods=[{"method": "ft", "phase": "paraphrase"}], rivals=[])
    return changed(stages=[first, stage(methods=[{"method": "ft"}])])


def rich() -> Document:
    """A method twice, a rival with a method, a schedule of the weight."""
    twice = [
        {"method": "kd", "weight_schedule": "cosine", "weight_final": 0.3, "temperature_schedule": "linear"},
        {"method": "kd", "temperature": 1.0},
    ]
    rival = {"name": "T 1", "label_weight": 0.1, "methods": [{"method": "kd", "temperature": 1.0}]}
    return changed(stages=[stage(methods=twice, rivals=[rival])], hardware={"cache": "memory"})


FORMS = [peers, assistant, born_again, several_teachers, no_teacher, prepared, rich]
PRESETS = [lambda name=name: read_document(name) for name in preset_files()]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return catalogs.load()


@pytest.mark.parametrize("make", [*FORMS, *PRESETS], ids=[*(f.__name__ for f in FORMS), *preset_files()])
def test_a_recipe_is_shown_and_given_back_as_it_was(
    qtbot, catalog: Catalog, make: Callable[[], Document]
) -> None:
    document = make()
    draft = Draft()
    draft.set_catalog(catalog)
    draft.load_document(document, "it")
    panel = ExperimentPanel(draft)
    show_inside(qtbot, panel, 276, 900)
    for holder in panel._holders.values():
        holder.box.set_open(True)
    assert draft.problems == []
    assert draft.document == complete(document, catalog)
    draft.set_value("stages.0.epochs", 77)
    assert Recipe.from_document(draft.document, catalog).stages[0].epochs == 77
    draft.undo()
    assert draft.document == complete(document, catalog)
    assert Recipe.from_document(draft.document, catalog) == Recipe.from_document(document, catalog)


@pytest.mark.parametrize(
    ("make", "lines"),
    [
        (peers, ["student · untrained"]),
        (assistant, ["teacher", "assistant of stage 1 · untrained", "student · untrained"]),
        (several_teachers, ["teacher 1", "teacher 2", "teacher 3", "student · untrained"]),
        (no_teacher, ["student · untrained"]),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_every_model_of_a_recipe_has_a_card(
    qtbot, catalog: Catalog, make: Callable[[], Document], lines: list[str]
) -> None:
    draft = Draft()
    draft.set_catalog(catalog)
    draft.load_document(make(), "it")
    panel = ExperimentPanel(draft)
    qtbot.addWidget(panel)
    cards = [key for key in panel._holders if "teacher" in key or "student" in key]
    said = [panel.card(key).head.line for key in cards]
    assert len(said) == len(lines)
    assert all(line.startswith(expected) for line, expected in zip(said, lines, strict=True))


def test_the_assistants_size_is_told_on_its_card(qtbot, catalog: Catalog) -> None:
    draft = Draft()
    draft.set_catalog(catalog)
    draft.load_document(assistant(), "it")
    panel = ExperimentPanel(draft)
    qtbot.addWidget(panel)
    draft.set_facts({"stages.0.student": {"model": "resnet14", "parameters": 175_000}})
    assert panel.card("stages.0.student").head.line == "assistant of stage 1 · 0.17 M"

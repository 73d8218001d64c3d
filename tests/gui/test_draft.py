"""The draft: one writer, undo by gesture, live edits told once, problems where they are."""

from __future__ import annotations

import gc
import weakref

import pytest

from kd_engine.catalog import Catalog
from kd_engine.errors import Problem, RecipeError
from kd_gui.state import edits, example
from kd_gui.state.draft import Draft

T = "stages.0.methods.1.temperature"
EPOCHS = "stages.0.epochs"


@pytest.fixture
def draft(qapp: object) -> Draft:
    made = Draft()
    made.set_catalog(example.catalog())
    made.load_document(example.document(), "example")
    return made


def edited(draft: Draft) -> list[tuple[str, object]]:
    heard: list[tuple[str, object]] = []
    draft.live_edited.connect(lambda path, value: heard.append((path, value)))
    return heard


def test_a_document_loaded_before_the_catalog_is_completed_when_it_comes(qapp: object) -> None:
    draft = Draft()
    draft.load_document(example.document(), "example")
    assert not draft.ready
    assert draft.problems == []
    assert draft.live_knobs() == []
    draft.set_catalog(example.catalog())
    assert draft.ready
    assert draft.value("stages.0.optimizer.momentum") == 0.9
    assert draft.value("hardware.device") == "auto"


def test_the_document_is_a_copy(draft: Draft) -> None:
    draft.document["stages"][0]["epochs"] = 99
    assert draft.value(EPOCHS) == 15


def test_a_drag_is_one_undo_step_and_the_next_drag_another(draft: Draft) -> None:
    for value in (5.0, 6.0, 7.0):
        draft.set_value(T, value, more=value > 5.0)
    draft.set_value(T, 9.0)
    draft.set_value(T, 10.0, more=True)
    assert draft.steps == 2
    draft.undo()
    assert draft.value(T) == 7.0
    draft.undo()
    assert draft.value(T) == 4.0
    draft.redo()
    assert draft.value(T) == 7.0


def test_a_change_after_going_back_takes_the_place_of_what_was_taken_back(draft: Draft) -> None:
    heard: list[tuple[str | None, str | None]] = []
    draft.history_changed.connect(lambda: heard.append((draft.undo_text, draft.redo_text)))
    draft.set_value(T, 5.0)
    draft.set_value(EPOCHS, 3)
    draft.undo()
    draft.undo()
    draft.undo()  # there is nothing more
    draft.set_value("seed", 7)
    draft.redo()  # nor here
    assert (draft.value(T), draft.value(EPOCHS), draft.value("seed"), draft.steps) == (4.0, 15, 7, 1)
    temperature, epochs, seed = "Change temperature", "Change epochs", "Change seed"
    assert heard == [
        (temperature, None),
        (epochs, None),
        (temperature, epochs),
        (None, temperature),
        (seed, None),
    ]


def test_a_drag_that_goes_on_after_undo_does_not_reach_what_was_taken_back(draft: Draft) -> None:
    draft.set_value(T, 5.0)
    draft.undo()
    draft.set_value(T, 6.0, more=True)
    draft.undo()
    assert draft.value(T) == 4.0


def test_a_draft_that_nobody_holds_goes_with_its_changes(qapp: object) -> None:
    draft = Draft()
    draft.set_catalog(example.catalog())
    draft.load_document(example.document(), "example")
    for value in (5.0, 6.0):
        draft.set_value(T, value)
    draft.undo()
    there = weakref.ref(draft)
    del draft
    gc.collect()
    assert there() is None


def test_a_gesture_on_another_setting_does_not_merge(draft: Draft) -> None:
    draft.set_value(T, 5.0)
    draft.set_value("stages.0.label_weight", 0.5, more=True)
    assert draft.steps == 2


def test_setting_the_same_value_is_no_step_and_no_signal(draft: Draft, qtbot: object) -> None:
    heard = edited(draft)
    draft.set_value(T, 4.0)
    assert draft.steps == 0
    assert heard == []


def test_live_edits_are_told_for_edits_undo_and_reset_but_not_for_other_settings(draft: Draft) -> None:
    heard = edited(draft)
    draft.set_value(T, 8.0)
    draft.set_value(EPOCHS, 3)
    draft.undo()
    draft.undo()
    draft.set_value(T, 2.0)
    draft.reset()
    assert heard == [(T, 8.0), (T, 4.0), (T, 2.0), (T, 4.0)]


def test_another_set_of_methods_tells_no_live_edit_though_places_shift(draft: Draft) -> None:
    heard = edited(draft)
    draft.edit("drop", edits.without_method(draft.document, "stages.0", 0))
    assert draft.value("stages.0.methods.0.method") == "kd"
    assert heard == []


def test_a_correction_is_neither_sent_nor_undone(draft: Draft) -> None:
    draft.set_value(T, 8.0)
    heard = edited(draft)
    draft.correct(T, 4.0)
    assert draft.value(T) == 4.0
    assert heard == []
    assert draft.steps == 1


def test_reset_goes_back_to_what_was_loaded_and_can_be_undone(draft: Draft) -> None:
    assert not draft.modified
    draft.set_value(EPOCHS, 3)
    assert draft.modified
    draft.reset()
    assert draft.value(EPOCHS) == 15
    assert not draft.modified
    draft.undo()
    assert draft.value(EPOCHS) == 3


def test_loading_another_document_can_be_undone(draft: Draft) -> None:
    other = {**example.document(), "name": "other", "seed": 7}
    draft.load_document(other, "other")
    assert (draft.preset, draft.title, draft.value("seed")) == ("other", "other", 7)
    draft.undo()
    assert (draft.preset, draft.title, draft.value("seed")) == ("example", "Digits, 10 labels a class", 0)


def test_a_document_that_names_what_is_not_there_is_refused_whole(draft: Draft) -> None:
    broken = edits.with_value(example.document(), "student", {"model": "resnet9"})
    with pytest.raises(RecipeError, match="resnet"):
        draft.load_document(broken, "broken")
    assert draft.preset == "example"


def test_a_value_out_of_range_is_loaded_and_is_a_problem(draft: Draft) -> None:
    draft.load_document(edits.with_value(example.document(), T, 0.5), "cold")
    assert [problem.path for problem in draft.problems] == [T]
    draft.set_value(T, 4.0)
    assert draft.problems == []


def test_the_engines_problems_stand_beside_the_checks_own(draft: Draft) -> None:
    draft.set_value(EPOCHS, 0)
    draft.set_facts({"problems": [{"path": "teacher.weights", "message": "made for 10 classes, not 4"}]})
    assert [problem.path for problem in draft.problems] == [EPOCHS, "teacher.weights"]
    assert draft.problems[1] == Problem("teacher.weights", "made for 10 classes, not 4")


def test_an_old_experiment_that_no_longer_fits_the_catalog_is_told(qapp: object) -> None:
    draft = Draft()
    draft.load_document(example.document(), "example")
    told: list[str] = []
    draft.trouble.connect(told.append)
    draft.set_catalog(Catalog(tuple(e for e in example.catalog().entries if e.name != "resnet")))
    assert "resnet8" in told[0]
    assert draft.document == {}  # no preset runs without it either
    draft.set_catalog(example.catalog())
    draft.load_document(example.document(), "example")
    assert draft.ready


def test_the_temperature_comes_first_and_is_neutral_without_one(draft: Draft) -> None:
    assert draft.temperature_path() == T
    assert draft.live_knobs()[0].path == T
    draft.set_value(T, 9.0)
    assert draft.temperature() == 9.0
    draft.edit("drop", edits.without_method(draft.document, "stages.0", 1))
    assert draft.temperature_path() is None
    assert draft.temperature() == 4.0


def test_another_model_takes_its_own_settings_with_it(draft: Draft) -> None:
    draft.edit("cnn", edits.with_model(draft.document, "student", "cnn", None))
    assert draft.value("student") == {"model": "cnn", "weights": None, "width": 4}


def test_another_dataset_keeps_what_is_done_with_any_dataset(draft: Draft) -> None:
    draft.edit("scenes", edits.with_dataset(draft.document, "scenes"))
    assert draft.value("data.samples") == 6000
    assert draft.value("data.labels_per_class") == 10


def test_another_optimizer_starts_from_its_own_learning_rate(draft: Draft) -> None:
    catalog = example.catalog()
    draft.edit("adamw", edits.with_named(draft.document, "stages.0.optimizer", "adamw", catalog))
    assert draft.value("stages.0.optimizer.lr") == 1e-3
    draft.edit("step", edits.with_named(draft.document, "stages.0.schedule", "step", catalog))
    assert draft.value("stages.0.schedule.warmup_epochs") == 1


def test_a_method_goes_to_its_place_in_the_catalog_and_away_again(draft: Draft) -> None:
    catalog = example.catalog()
    more = edits.with_method(draft.document, "stages.0", "fitnet", catalog)
    assert edits.methods_at(more, "stages.0") == ["at", "fitnet", "kd"]
    assert edits.methods_at(edits.without_method(more, "stages.0", 1), "stages.0") == ["at", "kd"]
    assert edits.methods_at(draft.document, "stages.0") == ["at", "kd"]


def test_the_plain_rival_goes_and_comes_back_once(draft: Draft) -> None:
    without = edits.without_rival(draft.document, "stages.0", edits.NO_KD)
    assert edits.rivals_at(without, "stages.0") == []
    twice = edits.with_plain_rival(edits.with_plain_rival(without, "stages.0"), "stages.0")
    assert edits.rivals_at(twice, "stages.0") == [edits.NO_KD]
    draft.edit("back", twice)
    assert draft.problems == []


def test_what_was_left_of_a_preset_in_the_last_session_is_reset_to_the_preset(qapp: object) -> None:
    draft = Draft()
    draft.set_catalog(example.catalog())
    draft.load_preset("quickstart")
    epochs = draft.value(EPOCHS)
    left = edits.with_value(draft.document, EPOCHS, epochs + 1)
    later = Draft()
    later.set_catalog(example.catalog())
    later.load_document(left, "quickstart")
    assert later.modified
    later.reset()
    assert later.value(EPOCHS) == epochs
    assert later.presets()["quickstart"] == later.title

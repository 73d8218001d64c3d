"""Recipes: every problem at once with its place and the way out; defaults filled in; the same after a round
trip; live knobs."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pydantic
import pytest

from kd_engine import catalog as catalogs
from kd_engine.catalog import Catalog
from kd_engine.check import check
from kd_engine.document import complete, get_at, live_knobs, parse_change, preset_files, read_document, set_at
from kd_engine.errors import RecipeError
from kd_engine.knobs import knobs_of
from kd_engine.recipe import Recipe
from kd_engine.recipe_knobs import DataKnobs
from tests.engine import tiny

SMALLEST = {"data": {"dataset": "digits"}, "student": {"model": "cnn"}, "stages": [{"stage": "train"}]}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return catalogs.load()


def problems(catalog: Catalog, **changes: Any) -> list[str]:
    return [str(problem) for problem in check(tiny.document(None, **changes), catalog)]


# -- problems --


def test_a_good_recipe_has_no_problem(catalog: Catalog) -> None:
    assert problems(catalog) == []
    assert check(SMALLEST, catalog) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"stages__0__methods__0__temperature": 0.5},
            "stages.0.methods.0.temperature: got 0.5, expected 1 to 20",
        ),
        (
            {"stages__0__methods": [{"method": "kdd"}]},
            "stages.0.methods.0.method: no method 'kdd' (did you mean 'kd'?)",
        ),
        (
            {"stages__0__methods": [{"method": "kd", "temprature": 2}]},
            "stages.0.methods.0.temprature: no such setting (did you mean 'temperature'?)",
        ),
        ({"data__dataset": "digist"}, "data.dataset: no dataset 'digist' (did you mean 'digits'?)"),
        ({"data__view": 3}, "data.view: no such setting (did you mean 'views'?)"),
        ({"student__model": "resnt20"}, "student.model: no model 'resnt20' (did you mean 'resnet20'?)"),
        ({"student__widht": 2}, "student.widht: no such setting (did you mean 'width'?)"),
        (
            {"stages__0__stage": "distil"},
            "stages.0.stage: no stage 'distil' (did you mean 'distill'?)",
        ),
        (
            {"stages__0__optimizer": {"name": "adam"}},
            "stages.0.optimizer.name: no optimizer 'adam' (did you mean 'adamw'?)",
        ),
        (
            {"stages__0__optimizer": {"name": "adamw", "momentum": 0.9}},
            "stages.0.optimizer.momentum: no such setting",
        ),
        (
            {"stages__0__schedule": {"name": "cosin"}},
            "stages.0.schedule.name: no schedule 'cosin' (did you mean 'cosine'?)",
        ),
        ({"stages__0__epochs": 0}, "stages.0.epochs: got 0, expected a whole number from 1 to 10000"),
        ({"stages__0__epochs": 2.5}, "stages.0.epochs: got 2.5, expected a whole number from 1 to 10000"),
        ({"stages__0__epochs": True}, "stages.0.epochs: got True, expected a whole number from 1 to 10000"),
        ({"stages__0__epoch": 2}, "stages.0.epoch: no such setting (did you mean 'epochs'?)"),
        ({"hardware__device": "gpu"}, "hardware.device: got 'gpu', expected one of auto, cpu, cuda, mps"),
        ({"hardware__devices": 2}, "hardware.devices: got 2"),
        ({"seed": -1}, "seed: got -1, expected a whole number from 0"),
        ({"sed": 1}, "sed: no such setting (did you mean 'seed'?)"),
        ({"version": 2}, "version: made by a newer version (2); this one reads 1: update kd-studio"),
        ({"version": "1"}, "version: got '1', expected 1"),
        ({"teacher": None}, "teacher: missing: stage 'distill' learns from one"),
        ({"student": None}, "student: missing"),
        ({"stages": []}, "stages: expected a list of at least one stage"),
        ({"stages": {"stage": "train"}}, "stages: expected a list of at least one stage"),
        ({"student__weights": "no/such/file.pt"}, "student.weights: no such file: 'no/such/file.pt'"),
        ({"student__weights": "bundled:digits"}, "student.weights: no bundled weights 'digits'"),
        ({"student__weights": 3}, "student.weights: got 3, expected null, bundled:NAME, run:NAME"),
        (
            {"stages__0__rivals": [{"name": "student", "label_weight": 1.0}]},
            "stages.0.rivals.0.name: got 'student', expected a name that no other student here has",
        ),
        (
            {"stages__0__rivals": [{"name": "a", "label_weight": 1.0}, {"name": "a", "label_weight": 1.0}]},
            "stages.0.rivals.1.name: got 'a', expected a name that no other student here has",
        ),
        (
            {"stages__0__rivals": [{"name": "a"}]},
            "stages.0.rivals.0.label_weight: missing, expected a number",
        ),
        (
            {"stages__0__rivals": [{"name": "a", "label_weight": 1.0, "epochs": 3}]},
            "stages.0.rivals.0.epochs: no such setting",
        ),
    ],
)
def test_a_problem_names_its_place_and_the_way_out(
    catalog: Catalog, changes: dict[str, Any], problem: str
) -> None:
    (found,) = problems(catalog, **changes)
    assert found.startswith(problem)


def test_methods_that_ask_for_one_class_are_refused_where_images_are_mixed(catalog: Catalog) -> None:
    """By name, in a stage and in its rivals; beside those that can be mixed with."""
    rivals = [{"name": "r", "label_weight": 1.0, "methods": [{"method": "at"}, {"method": "crd"}]}]
    methods = [{"method": "kd"}, {"method": "dkd"}]
    for mix in ("mixup", "cutmix"):
        found = problems(catalog, data__mix=mix, stages__0__methods=methods, stages__0__rivals=rivals, seed=3)
        assert [problem.split(":")[0] for problem in found] == [
            "stages.0.methods.1.method",
            "stages.0.rivals.0.methods.1.method",
        ]
        assert "'dkd' asks which class an image is of" in found[0]
        assert "set data.mix to none" in found[0]
    assert problems(catalog, data__mix="none", stages__0__methods=methods, stages__0__rivals=rivals) == []
    assert problems(catalog, data__mix="cutmix", data__erase=0.5) == []


@pytest.mark.parametrize(
    ("method", "knob", "one", "other"),
    [("multi-teacher", "combine", "average", "confidence"), ("fitnet", "fusion", "none", "concat")],
)
def test_a_method_that_asks_for_one_class_by_a_setting_is_refused_by_that_setting(
    catalog: Catalog, method: str, knob: str, one: str, other: str
) -> None:
    for set_so in ({}, {knob: one}):
        assert problems(catalog, data__mix="mixup", stages__0__methods=[{"method": method, **set_so}]) == []
    (found,) = problems(catalog, data__mix="mixup", stages__0__methods=[{"method": method, knob: other}])
    assert found.startswith(f"stages.0.methods.0.{knob}: '{method}' with {knob} {other} asks which class")
    assert problems(catalog, stages__0__methods=[{"method": method, knob: other}]) == []


def test_one_view_is_no_view_to_change(catalog: Catalog) -> None:
    for changed in ({"data__erase": 0.5}, {"data__mix": "mixup"}):
        (found,) = problems(catalog, data__views=1, **changed)
        assert found.startswith("data.views: got 1, expected 2 or more")
    assert problems(catalog, data__views=1) == []


def test_erasing_and_mixing_are_offered_by_every_form(catalog: Catalog) -> None:
    """Forms are made from what these say; see DataKnobs."""
    offered = {knob.name: knob for knob in knobs_of(DataKnobs)}
    assert (offered["erase"].low, offered["erase"].high, offered["erase"].default) == (0, 1, 0)
    assert offered["mix"].choices == ("none", "mixup", "cutmix")
    assert offered["mix_alpha"].advanced


def test_every_problem_is_named_at_once(catalog: Catalog) -> None:
    wrong = {
        "data__dataset": "digist",
        "data__views": 0,
        "student__model": "resnet2o",
        "teacher__widht": 2,
        "seed": "one",
        "stages__0__epochs": 0,
        "stages__0__methods": [{"method": "kdd"}, {"method": "kd", "temperature": 99}],
        "stages__0__rivals": [{"name": "", "label_weight": 99, "methods": [{"method": "ta"}]}],
        "hardware__threads": 0,
    }
    found = problems(catalog, **wrong)
    assert [problem.split(":")[0] for problem in found] == [
        "seed",
        "data.dataset",
        "student.model",
        "teacher.widht",
        "stages.0.epochs",
        "stages.0.methods.0.method",
        "stages.0.methods.1.temperature",
        "stages.0.rivals.0.name",
        "stages.0.rivals.0.label_weight",
        "stages.0.rivals.0.methods.0.method",
        "hardware.threads",
    ]
    with pytest.raises(RecipeError) as told:
        Recipe.from_document(tiny.document(None, **wrong))
    assert [str(problem) for problem in told.value.problems] == found
    assert str(told.value) == "\n".join(found)


def test_a_recipe_is_not_changed_by_being_read(catalog: Catalog) -> None:
    document = tiny.document()
    before = copy.deepcopy(document)
    check(document, catalog)
    made = Recipe.from_document(document)
    made.document()["data"]["views"] = 99
    made.with_changes({"data.views": 3})
    assert document == before
    assert made.data.views == 4


# -- defaults and round trips --


def test_what_is_not_said_takes_its_default(catalog: Catalog) -> None:
    full = complete(SMALLEST, catalog)
    assert full["name"] == "untitled"
    assert full["data"]["augment"] == "crop-flip"
    assert full["student"] == {"model": "cnn", "weights": None, "width": 4}
    assert full["teacher"] is None
    (stage,) = full["stages"]
    assert (stage["epochs"], stage["batch_size"]) == (10, 128)
    assert stage["optimizer"] == {
        "name": "sgd",
        "lr": 0.05,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "nesterov": False,
    }
    assert stage["schedule"] == {"name": "cosine", "warmup_epochs": 0, "final": 0.0}
    assert full["hardware"]["device"] == "auto"
    assert "methods" not in stage
    assert complete(full, catalog) == full


def test_a_recipe_is_the_same_after_a_round_trip_through_json() -> None:
    made = tiny.recipe(None, stages__0__rivals=[tiny.PLAIN])
    text = json.dumps(made.document(), allow_nan=False)
    assert Recipe.from_document(json.loads(text)) == made
    assert Recipe.from_document(json.loads(text)).document() == made.document()


@pytest.mark.parametrize("name", sorted(preset_files()))
def test_bundled_recipes_are_good_and_complete_ones_are_too(name: str, catalog: Catalog) -> None:
    made = Recipe.load(name)
    assert check(made.document(), catalog) == []
    assert Recipe.from_document(made.document()) == made


def test_quickstart_comes_first() -> None:
    assert next(iter(preset_files())) == "quickstart"


def test_a_recipe_is_frozen() -> None:
    made = tiny.recipe()
    with pytest.raises(pydantic.ValidationError):
        made.seed = 3
    with pytest.raises(pydantic.ValidationError):
        made.stages[0].epochs = 3


def test_changes_make_another_recipe_which_is_checked_again() -> None:
    made = tiny.recipe()
    other = made.with_changes({"stages.0.methods.0.temperature": 8.0, "data.views": 2})
    assert other.stages[0].methods[0].more["temperature"] == 8.0
    assert made.stages[0].methods[0].more["temperature"] == 4.0
    with pytest.raises(RecipeError, match="expected 1 to 20"):
        made.with_changes({"stages.0.methods.0.temperature": 80.0})


def test_recipes_are_loaded_from_files_and_from_runs(tmp_path: Path) -> None:
    made = tiny.recipe()
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(made.document()))
    assert Recipe.load(file) == Recipe.load(str(file)) == Recipe.load(tmp_path) == made


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not a JSON file"),
        (b"\xff\xfe\x00", "not a JSON file"),
        (b"[1]", "expected a JSON object"),
        (b"", "not a JSON file"),
    ],
)
def test_a_file_that_is_no_recipe_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(RecipeError, match=words):
        read_document(tmp_path / "file")


def test_an_unknown_recipe_says_what_there_is() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'quickstrat' \(did you mean 'quickstart'\?\)"):
        read_document("quickstrat")


# -- places --


def test_places_are_read_and_set_by_dotted_path() -> None:
    document = {"a": [{"b": 1}, {"c": {"d": 2}}]}
    assert get_at(document, "a.1.c.d") == 2
    set_at(document, "a.0.b", 5)
    set_at(document, "x.y", 6)
    assert document == {"a": [{"b": 5}, {"c": {"d": 2}}], "x": {"y": 6}}


@pytest.mark.parametrize("path", ["a.2.c", "a.x", "b", "a.-1", ""])
def test_places_that_are_not_there_are_errors(path: str) -> None:
    with pytest.raises((KeyError, IndexError, ValueError)):
        get_at({"a": [{"b": 1}]}, path)


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("a.b=3", ("a.b", 3)),
        ("a=null", ("a", None)),
        ("a=resnet20", ("a", "resnet20")),
        ('a="3"', ("a", "3")),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a=b=c", ("a", "b=c")),
        ("a=", ("a", "")),
    ],
)
def test_changes_from_a_command_line(text: str, change: tuple[str, Any]) -> None:
    assert parse_change(text) == change


@pytest.mark.parametrize("text", ["a", "=3", ""])
def test_half_a_change_is_an_error(text: str) -> None:
    with pytest.raises(RecipeError, match="expected path=value"):
        parse_change(text)


# -- live knobs --


def test_live_knobs_are_those_of_methods_then_stage_then_optimizer(catalog: Catalog) -> None:
    methods = [{"method": "kd", "temperature": 3.0}, {"method": "at"}]
    document = tiny.two_stages(None, stages__0__methods=methods).document()
    live = live_knobs(document, catalog)
    assert [knob.path for knob in live] == [
        "stages.0.optimizer.lr",
        "stages.1.methods.0.weight",
        "stages.1.methods.0.temperature",
        "stages.1.methods.1.weight",
        "stages.1.label_weight",
        "stages.1.optimizer.lr",
    ]
    for knob in live:
        assert get_at(document, knob.path) == knob.value
        assert knob.knob.problem(knob.value) is None
    owners = [knob.owner for knob in live]
    assert owners == ["adamw", "kd", "kd", "at", "distill", "sgd"]

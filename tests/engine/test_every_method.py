"""Every method there is teaches in a real run, tiny as it is: it ends well, and what it says is finite."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from kd_engine import answers
from kd_engine import events as e
from kd_engine.recipe import Recipe
from kd_engine.registry import discover
from kd_engine.session import Session
from tests.engine import tiny

METHODS: dict[str, Any] = dict(sorted(discover("methods").plugins.items()))
VIT = {"model": "vit-tiny", "depth": 2, "width": 16, "heads": 2, "patch": 8}
MODELS = ({"model": "cnn", "width": 2}, {"model": "resnet8"}, VIT)  # the first pair that it can work between


def stages(name: str) -> list[dict[str, Any]]:
    """As its file says that it is used: alone, after a first stage of its own, or among peers."""
    plugin = METHODS[name]
    stage = {**tiny.PLAN, "stage": "distill", "epochs": 1, "methods": [{"method": name}]}
    if name == "dml":
        return [{**stage, "stage": "mutual"}]
    if plugin.first_stage is None:
        return [stage]
    first = {**stage, "label_weight": 0.0, "methods": [{"method": name, **plugin.first_stage}]}
    return [first, stage if plugin.accompanies else {**stage, "methods": []}]


def document(name: str, model: dict[str, Any]) -> dict[str, Any]:
    made = tiny.document(stages=stages(name), student=model)
    made["teacher"] = model if METHODS[name].needs_teacher else None
    if name == "multi-teacher":
        made["more_teachers"] = [model]
    return made


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", METHODS)
def test_it_teaches_from_the_first_step_to_the_last(name: str, tmp_path: Path) -> None:
    made = next(m for m in (document(name, model) for model in MODELS) if not answers.describe(m)["problems"])
    told = tiny.finish(Session(Recipe.from_document(made), tmp_path))
    heard = set()
    for step in tiny.of(e.StepDone, told):
        assert all(math.isfinite(value) for value in (step.loss, *step.terms.values())), step
        heard |= {step.stage for term in step.terms if term.startswith(name)}
    taught = [i for i, stage in enumerate(made["stages"]) if stage["methods"]]
    assert heard == set(taught)

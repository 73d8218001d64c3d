"""Every method there is teaches in a real run, tiny as it is: it ends well, and what it says is finite."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from kd_engine import events as e
from kd_engine.recipe import Recipe
from kd_engine.registry import discover
from kd_engine.session import Session
from tests.engine import tiny

METHODS = sorted(discover("methods").plugins)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", METHODS)
def test_it_teaches_from_the_first_step_to_the_last(name: str, tmp_path: Path) -> None:
    made = tiny.teaching(name)
    told = tiny.finish(Session(Recipe.from_document(made), tmp_path))
    heard = set()
    for step in tiny.of(e.StepDone, told):
        assert all(math.isfinite(value) for value in (step.loss, *step.terms.values())), step
        heard |= {step.stage for term in step.terms if term.startswith(name)}
    taught = [i for i, stage in enumerate(made["stages"]) if stage["methods"]]
    assert heard == set(taught)

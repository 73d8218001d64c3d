"""Activation boundaries: the hinge against a float64 reference, its connectors, its two-stage recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kd_engine.errors import KdError
from kd_engine.events import StepDone
from kd_engine.methods import create
from kd_engine.methods.ab import crossing
from kd_engine.session import Session
from kd_engine.signals import Shapes, Signals
from tests.engine import reference as ref
from tests.engine import tiny


def stages(channels: int, seed: int, count: int = 3) -> Signals:
    sizes = {k: 16 >> k for k in range(1, count + 1)}
    return ref.signals({f"preact{k}": ref.feature((4, channels, s, s), seed + k) for k, s in sizes.items()})


def hinge(student: np.ndarray, teacher: np.ndarray, margin: float) -> float:
    """As the authors write it: two cases, masks, squares."""
    off = (student + margin) ** 2 * ((student > -margin) & (teacher <= 0))
    on = (student - margin) ** 2 * ((student <= margin) & (teacher > 0))
    return float((off + on).sum() / len(student))


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(1, 4),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    margin=st.floats(0.1, 3),
    count=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int, channels: tuple[int, int], margin: float, count: int, seed: int
) -> None:
    shape = {f"preact{k}": 8 >> k for k in range(1, count + 1)}
    student, teacher = (
        ref.signals({name: ref.feature((batch, c, s, s), seed + c + s) for name, s in shape.items()})
        for c in channels
    )
    method = ref.prepared(create("ab", margin=margin), student, teacher, seed)
    state = ref.arrays(method)
    terms = ref.terms(method, student, teacher)
    assert list(terms) == [f"ab_{name}" for name in shape]
    for level, name in enumerate(shape):
        f = ref.numpy(student.taps[name])
        if channels[0] != channels[1]:
            at = f"connectors.{name}"
            f = ref.conv(f, state[f"{at}.0.weight"])
            f = ref.batch_norm(f, state[f"{at}.1.weight"], state[f"{at}.1.bias"])
        wanted = hinge(f, ref.numpy(teacher.taps[name]), margin) * 3 / 1000 * 2.0 ** (level - count + 1)
        assert terms[f"ab_{name}"].item() == pytest.approx(wanted, rel=1e-5, abs=1e-12)


def test_it_is_zero_beyond_the_margin_on_the_right_side_and_only_there() -> None:
    teacher = torch.tensor([0.1, -0.1, 0.0]).view(1, 3, 1, 1)
    right = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    assert crossing(right, teacher, 1.0) == 0
    assert crossing(right * 0.9, teacher, 1.0).item() == pytest.approx(3 * 0.01)
    assert crossing(-right, teacher, 1.0).item() == 3 * 4


def test_only_the_side_counts_not_how_far_the_teacher_is() -> None:
    student, teacher = ref.feature((2, 3, 4, 4), 1), ref.feature((2, 3, 4, 4), 2)
    assert torch.equal(crossing(student, teacher, 1.0), crossing(student, teacher * 1e-3, 1.0))
    assert torch.equal(crossing(student, teacher, 1.0), crossing(student, teacher * 1e3, 1.0))


def test_shapes_that_agree_have_no_connector_others_have_one_without_relu() -> None:
    same = ref.prepared(create("ab"), stages(3, 1), stages(3, 5))
    assert not list(same.parameters())
    taps = {"preact1": ref.feature((4, 3, 4, 4), 1), "preact2": ref.feature((4, 3, 4, 4), 2)}
    other = {"preact1": ref.feature((4, 3, 8, 8), 1), "preact2": ref.feature((4, 3, 2, 2), 2)}
    method = ref.prepared(create("ab"), ref.signals(taps), ref.signals(other))
    kinds = [type(part) for part in method.get_submodule("connectors.preact1").children()]
    assert kinds[0] is nn.ConvTranspose2d
    assert nn.ReLU not in kinds
    assert ref.terms(method, ref.signals(taps), ref.signals(other))["ab_preact2"].isfinite()


def test_models_without_taps_before_the_activation_are_refused() -> None:
    shapes = Shapes(2, {"stage1": (3, 4, 4)})
    with pytest.raises(KdError, match=r"preact1, preact2.*stage1.*'kd'"):
        create("ab").prepare(stages(3, 1).shapes(), shapes)


def test_the_recipe_of_two_stages_starts_a_student_and_then_trains_it_without(tmp_path: Path) -> None:
    start = {"epochs": 1, "label_weight": 0.0, "methods": [{"method": "ab", "weight": 1.0}]}
    after = {"epochs": 1, "label_weight": 1.0, "methods": []}
    plans = [{**tiny.PLAN, "stage": "distill", **plan} for plan in (start, after)]
    told = tiny.finish(Session(tiny.recipe(student__width=4, stages=plans), tmp_path))
    learned = {(step.stage, name) for step in tiny.of(StepDone, told) for name in step.terms}
    assert learned == {(0, "ab"), (1, "label")}

"""Variational information: the density against a float64 reference, its variances, what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_engine.errors import KdError
from kd_engine.methods import create
from kd_engine.methods.vid import Vid, surprise
from kd_engine.signals import Shapes, Signals
from tests.engine import reference as ref

sides = st.sampled_from([(1, 1), (4, 4), (4, 8), (6, 3), (7, 7)])


def stages(channels: int, seed: int, batch: int = 4) -> Signals:
    return ref.signals(
        {f"stage{k}": ref.feature((batch, channels * k, 8 >> k, 8 >> k), seed + k) for k in (1, 2)}
    )


def expected(student: np.ndarray, teacher: np.ndarray, state: dict[str, np.ndarray], reduction: str) -> float:
    f, g = ref.to_smaller(student, teacher)
    for layer in (0, 2, 4):
        f = ref.conv(f if layer == 0 else np.maximum(f, 0), state[f"means.stage1.{layer}.weight"])
    variance = (np.log1p(np.exp(state["scales.stage1"])) + 1e-5)[None, :, None, None]
    each = 0.5 * ((f - g) ** 2 / variance + np.log(variance))
    return float(each.mean() if reduction == "reference" else each.sum((1, 2, 3)).mean())


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(1, 4),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    sizes=st.tuples(sides, sides),
    reduction=st.sampled_from(["reference", "paper"]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int,
    channels: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    reduction: str,
    seed: int,
) -> None:
    student = ref.feature((batch, channels[0], *sizes[0]), seed)
    teacher = ref.feature((batch, channels[1], *sizes[1]), seed + 1)
    ours, theirs = ref.signals({"stage1": student}), ref.signals({"stage1": teacher})
    method = ref.prepared(create("vid", reduction=reduction), ours, theirs, seed)
    with torch.no_grad():  # away from the start, where all channels are alike
        method.get_parameter("scales.stage1").add_(ref.feature((channels[1],), seed + 2))
    wanted = expected(ref.numpy(student), ref.numpy(teacher), ref.arrays(method), reduction)
    assert ref.terms(method, ours, theirs)["vid_stage1"].item() == pytest.approx(wanted, rel=1e-9)
    single = ref.terms(
        method.float(),
        ref.signals({"stage1": student.float()}),
        ref.signals({"stage1": teacher.float()}),
    )
    assert single["vid_stage1"].item() == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_variances_start_at_5_are_parameters_and_are_in_the_state() -> None:
    method = ref.prepared(create("vid"), stages(2, 1), stages(3, 2))
    assert isinstance(method, Vid)
    for tap, channels in (("stage1", 3), ("stage2", 6)):
        torch.testing.assert_close(method.variance(tap), torch.full((channels,), 5.0).double())
    assert {"scales.stage1", "scales.stage2"} <= dict(method.named_parameters()).keys()
    assert {"scales.stage1", "scales.stage2"} <= method.state_dict().keys()
    torch.stack(list(ref.terms(method, stages(2, 1), stages(3, 2)).values())).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in method.parameters())


def test_it_is_lowest_where_the_variance_is_the_mean_square_of_what_is_left() -> None:
    student, teacher = stages(2, 1), stages(3, 2)
    method = ref.prepared(create("vid", stages="last"), student, teacher)
    left = method.get_submodule("means.stage2")(student.taps["stage2"]) - teacher.taps["stage2"]
    variance = left.detach().square().mean((0, 2, 3))
    scales = method.get_parameter("scales.stage2")
    with torch.no_grad():
        scales.copy_(torch.log(torch.expm1(variance - 1e-5)))
    term = ref.terms(method, student, teacher)["vid_stage2"]
    torch.testing.assert_close(term, 0.5 * (1 + variance.log()).mean())
    (slope,) = torch.autograd.grad(term, scales)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)


def test_a_certain_and_right_guess_has_a_loss_below_zero() -> None:
    f = ref.feature((2, 3, 2, 2), 1)
    assert surprise(f, f, torch.full((3,), 0.1), "reference").item() == pytest.approx(0.5 * math.log(0.1))


def test_one_term_a_stage_and_the_last_are_paired() -> None:
    student, teacher = stages(2, 1), stages(3, 2)
    more = Signals(teacher.logits, {**teacher.taps, "stage3": ref.feature((4, 5, 2, 2), 9)})
    method = ref.prepared(create("vid"), student, more)
    assert method.teacher_taps(student.shapes(), more.shapes()) == ("stage2", "stage3")
    assert list(ref.terms(method, student, more)) == ["vid_stage1", "vid_stage2"]
    last = ref.prepared(create("vid", stages="last"), student, more)
    assert last.teacher_taps(student.shapes(), more.shapes()) == ("stage3",)
    assert list(ref.terms(last, student, more)) == ["vid_stage2"]


def test_models_without_maps_are_refused_with_what_they_have() -> None:
    tokens = Shapes(2, {"block1": (17, 8)})
    with pytest.raises(KdError, match=r"no common map taps.*stage1.*block1"):
        create("vid").prepare(stages(2, 1).shapes(), tokens)

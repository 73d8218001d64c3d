"""Schedules: their ends, their shapes, and what a method makes of them for its weight and its temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.methods import Method, create
from kd_engine.methods._logits import LogitMethod, confidence
from kd_engine.schedules import END, Clock, Course, between
from kd_engine.signals import Signals

QUICK = settings(max_examples=40, derandomize=True, deadline=None, database=None)
COURSES: tuple[Course, ...] = ("constant", "linear", "cosine", "warm-up")
courses = st.sampled_from(COURSES)
shares = st.floats(0, 1)
values = st.floats(-100, 100)


def at(course: Course, share: float, start: float = 8.0, end: float = 2.0, warmup: float = 0.25) -> float:
    return between(course, Clock(10 * share, share), start, end, warmup)


def logits(shape: tuple[int, ...], seed: int) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def method(name: str, clock: Clock, **knobs: object) -> Method:
    made = create(name, **knobs)
    made.clock = clock
    return made


@pytest.mark.parametrize(
    ("course", "first", "last"),
    [("constant", 8.0, 8.0), ("linear", 8.0, 2.0), ("cosine", 8.0, 2.0), ("warm-up", 2.0, 8.0)],
)
def test_where_each_course_begins_and_ends(course: Course, first: float, last: float) -> None:
    assert at(course, 0.0) == pytest.approx(first)
    assert at(course, 1.0) == pytest.approx(last)
    assert between(course, END, 8.0, 2.0, 0.25) == pytest.approx(last)


@QUICK
@given(course=courses, share=shares, start=values, end=values, warmup=shares)
def test_it_is_between_its_ends_and_the_same_when_nothing_moves(
    course: Course, share: float, start: float, end: float, warmup: float
) -> None:
    value = at(course, share, start, end, warmup)
    assert min(start, end) - 1e-9 <= value <= max(start, end) + 1e-9
    assert at(course, share, start, start, warmup) == pytest.approx(start, abs=1e-9)


@QUICK
@given(course=courses, share=shares, other=shares, warmup=st.floats(0.05, 1))
def test_it_never_turns_back(course: Course, share: float, other: float, warmup: float) -> None:
    early, late = (at(course, s, 0.0, 1.0, warmup) for s in sorted((share, other)))
    assert (early >= late - 1e-12) if course == "warm-up" else (early <= late + 1e-12)


@QUICK
@given(share=shares)
def test_the_curves_are_the_formulas(share: float) -> None:
    assert at("linear", share) == pytest.approx(8 - 6 * share)
    assert at("cosine", share) == pytest.approx(2 + 3 * (1 + np.cos(np.pi * share)))
    assert at("warm-up", share) == pytest.approx(2 + 6 * min(1.0, share / 0.25))


def test_a_cosine_starts_and_ends_slowly_and_meets_the_line_in_the_middle() -> None:
    assert at("cosine", 0.5) == pytest.approx(at("linear", 0.5))
    assert at("cosine", 0.1) > at("linear", 0.1)
    assert at("cosine", 0.9) < at("linear", 0.9)


def test_a_warm_up_of_no_length_is_over_at_once() -> None:
    assert at("warm-up", 0.0, warmup=0.0) == 8.0


# ---- a method's weight


def test_a_weight_is_multiplied_as_its_schedule_says() -> None:
    teacher = Signals(logits((4, 3), 0))
    for share in (0.0, 0.1, 0.5, 1.0):
        clock = Clock(12 * share, share)
        expected = {
            "constant": 1.0,
            "linear": 1 - 0.75 * share,
            "cosine": 0.25 + 0.75 * (1 + math.cos(math.pi * share)) / 2,
            "warm-up": 0.25 + 0.75 * min(1.0, share / 0.2),
        }
        for schedule, value in expected.items():
            knobs = {"weight_schedule": schedule, "weight_final": 0.25, "weight_warmup": 0.2}
            assert method("kd", clock, **knobs).strength(teacher) == pytest.approx(value)


def test_a_weight_by_confidence_is_the_teachers_mean_top_probability() -> None:
    said = logits((5, 7), 1)
    rows = np.exp(said.double().numpy())
    expected = (rows / rows.sum(1, keepdims=True)).max(1).mean()
    made = create("kd", weight_schedule="confidence")
    strength = made.strength(Signals(said))
    assert isinstance(strength, Tensor)
    assert strength.item() == pytest.approx(expected, rel=1e-6)
    assert made.strength(Signals(said.half())).dtype == torch.float32  # type: ignore[union-attr]
    assert made.strength(None) == 1.0


def test_a_schedule_leaves_the_terms_alone() -> None:
    student, teacher = Signals(logits((4, 3), 2)), Signals(logits((4, 3), 3))
    plain = create("kd")(student, teacher, torch.zeros(4))
    moved = method("kd", Clock(0.0, 0.0), weight_schedule="warm-up")(student, teacher, torch.zeros(4))
    assert moved == plain


# ---- a temperature


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", 6.0),
        ("linear", 5.8),
        ("cosine", 6 - 2 * (1 - math.cos(0.05 * math.pi))),
        ("warm-up", 4.0),
    ],
)
def test_a_temperature_moves_as_its_schedule_says(schedule: str, expected: float) -> None:
    knobs = {"temperature": 6.0, "temperature_schedule": schedule, "temperature_final": 2.0}
    made = method("kd", Clock(0.5, 0.05), **knobs)
    assert isinstance(made, LogitMethod)
    assert made.heat(logits((4, 3), 4)) == pytest.approx(expected)
    student, teacher = Signals(logits((4, 3), 5)), Signals(logits((4, 3), 6))
    fixed = create("kd", temperature=expected)(student, teacher, torch.zeros(4))
    assert made(student, teacher, torch.zeros(4))["kd"].item() == pytest.approx(fixed["kd"].item(), rel=1e-5)


def test_a_temperature_by_confidence_is_one_for_each_sample() -> None:
    student, teacher = logits((6, 5), 7).double(), logits((6, 5), 8).double()
    made = create("kd", temperature=6.0, temperature_schedule="confidence", temperature_final=2.0)
    expected = 0.0
    for ours, theirs in zip(student.numpy(), teacher.numpy(), strict=True):
        top = (np.exp(theirs) / np.exp(theirs).sum()).max()
        heat = 2 + 4 * top
        p, q = (np.exp(z / heat) / np.exp(z / heat).sum() for z in (theirs, ours))
        expected += heat**2 * (p * np.log(p / q)).sum() / 6
    term = made(Signals(student), Signals(teacher), torch.zeros(6))["kd"]
    assert term.item() == pytest.approx(expected, rel=1e-10)


def test_a_sure_teacher_is_softened_by_the_temperature_and_an_unsure_one_by_its_other_end() -> None:
    sure, unsure = torch.tensor([[100.0, 0.0, 0.0]]), torch.zeros(1, 3)
    torch.testing.assert_close(confidence(sure), torch.ones(1, 1))
    torch.testing.assert_close(confidence(unsure), torch.full((1, 1), 1 / 3))
    made = create("kd", temperature=6.0, temperature_schedule="confidence", temperature_final=3.0)
    assert isinstance(made, LogitMethod)
    heat = made.heat(torch.cat((sure, unsure)))
    torch.testing.assert_close(heat, torch.tensor([[6.0], [4.0]]))

"""What logits say at a temperature, against scipy and against identities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from kd_gui.state import answers

logits = st.lists(st.floats(-50, 50), min_size=2, max_size=12)
temperatures = st.floats(0.5, 40)


@given(logits, temperatures)
def test_softening_entropy_and_divergence_agree_with_scipy(values: list[float], temperature: float) -> None:
    teacher = np.array(values)
    student = np.roll(teacher, 1) * 0.5
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    np.testing.assert_allclose(answers.soften(teacher, temperature), p, atol=1e-12)
    assert answers.entropy(teacher, temperature) == pytest.approx(scipy_entropy(p), abs=1e-9)
    assert answers.divergence(teacher, student, temperature) == pytest.approx(scipy_entropy(p, q), abs=1e-8)


@given(logits, temperatures, st.floats(-30, 30))
def test_a_constant_added_to_all_logits_changes_nothing(
    values: list[float], temperature: float, more: float
) -> None:
    plain = answers.soften(np.array(values), temperature)
    np.testing.assert_allclose(answers.soften(np.array(values) + more, temperature), plain, atol=1e-9)


def test_huge_logits_neither_overflow_nor_warn() -> None:
    with np.errstate(over="raise", invalid="raise"):
        said = answers.soften(np.array([1e6, 0.0, -1e6]), 1.0)
        assert answers.divergence(np.array([1e4, 0.0]), np.array([0.0, 1e4]), 1.0) == pytest.approx(1e4)
    assert said.tolist() == [1.0, 0.0, 0.0]


def test_a_higher_temperature_raises_the_entropy_up_to_that_of_even_classes() -> None:
    teacher = np.array([6.0, 2.0, 1.0, -1.0])
    climbing = [float(answers.entropy(teacher, t)) for t in (0.5, 1, 2, 4, 8, 20, 1e6)]
    assert climbing == sorted(climbing)
    assert climbing[-1] == pytest.approx(math.log(4), abs=1e-6)


def test_many_answers_at_once_are_the_same_as_one_by_one() -> None:
    teacher, student = np.random.default_rng(0).normal(0, 3, (2, 7, 5))
    together = answers.divergence(teacher, student, 3.0)
    alone = [float(answers.divergence(t, s, 3.0)) for t, s in zip(teacher, student, strict=True)]
    np.testing.assert_allclose(together, alone)


def test_similarity_is_the_cosine_and_ignores_strength() -> None:
    one = np.array([[0, 200], [100, 0]], dtype=np.uint8)
    assert answers.similarity(one, one // 2) == pytest.approx(1.0)
    assert answers.similarity(one, np.array([[90, 0], [0, 7]], dtype=np.uint8)) == 0.0
    assert answers.similarity(one, np.zeros((2, 2), np.uint8)) == 0.0
    assert answers.similarity(one, np.array([[0, 200], [0, 0]], np.uint8)) == pytest.approx(2 / math.sqrt(5))


def test_even_heat_lies_inside_the_mask_as_much_as_the_mask_covers() -> None:
    mask = np.zeros((4, 4), bool)
    mask[:1] = True
    assert answers.share_inside(np.full((4, 4), 9, np.uint8), mask) == 0.25
    assert answers.share_inside(np.zeros((4, 4), np.uint8), mask) == 0.0


def test_soft_targets_list_the_teachers_top_classes_and_the_student_on_the_same() -> None:
    teacher, student = np.array([0.0, 4.0, 1.0, 3.0]), np.array([5.0, 0.0, 0.0, 1.0])
    soft = answers.soft_targets(teacher, student, 2.0, top=2)
    assert soft is not None
    assert soft.teacher is not None
    assert soft.student is not None
    assert soft.classes == (1, 3)
    p, q = softmax(teacher / 2), softmax(student / 2)
    np.testing.assert_allclose(soft.teacher, p[[1, 3]])
    np.testing.assert_allclose(soft.student, q[[1, 3]])
    assert soft.ratio == pytest.approx(math.exp(0.5))
    assert soft.rest == pytest.approx(p[0] + p[2])
    assert soft.kl == pytest.approx(scipy_entropy(p, q))
    assert soft.teacher_says == (1, pytest.approx(p[1]))
    assert soft.student_says == (0, pytest.approx(q[0]))


def test_without_a_teacher_the_students_own_classes_lead() -> None:
    soft = answers.soft_targets(None, np.array([0.0, 2.0, 1.0]), 1.0, top=2)
    assert soft is not None
    assert (soft.classes, soft.teacher, soft.kl) == ((1, 2), None, None)
    assert answers.soft_targets(None, None, 1.0) is None

"""Hard labels against a float64 reference written from the formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.methods import create
from kd_engine.signals import Signals


def logits(shape: tuple[int, ...], seed: int) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def hard_label(student: Tensor, teacher: Tensor) -> Tensor:
    return create("hard-label")(Signals(student), Signals(teacher), torch.zeros(1))["hard-label"]


def reference(student: np.ndarray, teacher: np.ndarray) -> float:
    """Mean of −log softmax(z_s)[argmax z_t], row by row."""
    rows = zip(student.reshape(-1, student.shape[-1]), teacher.reshape(-1, teacher.shape[-1]), strict=True)
    return float(np.mean([np.log(np.exp(s - s.max()).sum()) + s.max() - s[t.argmax()] for s, t in rows]))


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(
    leading=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    classes=st.integers(2, 12),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula_over_all_leading_dimensions(
    leading: list[int], classes: int, seed: int
) -> None:
    student, teacher = logits((*leading, classes), seed), logits((*leading, classes), seed + 1)
    expected = reference(student.double().numpy(), teacher.double().numpy())
    assert hard_label(student, teacher).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_only_the_order_of_the_teachers_scores_counts() -> None:
    student, teacher = logits((8, 10), 1), logits((8, 10), 2)
    assert hard_label(student, teacher) == hard_label(student, 5 * teacher + 3)
    assert hard_label(student, teacher) != hard_label(student, -teacher)


def test_a_constant_added_to_a_row_of_the_students_changes_nothing() -> None:
    student, teacher = logits((8, 10), 3).double(), logits((8, 10), 4)
    torch.testing.assert_close(hard_label(student + 7, teacher), hard_label(student, teacher))


def test_a_student_that_knows_nothing_pays_log_of_the_classes() -> None:
    assert hard_label(torch.zeros(4, 10), logits((4, 10), 5)).item() == pytest.approx(np.log(10), rel=1e-6)


def test_fp16_logits_are_computed_in_float32() -> None:
    student, teacher = logits((16, 100), 6).half(), logits((16, 100), 7).half()
    expected = reference(student.double().numpy(), teacher.double().numpy())
    assert hard_label(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    far = hard_label(torch.tensor([[6e4, -6e4]]).half(), torch.tensor([[0.0, 1.0]]))
    assert far.item() == pytest.approx(120000, rel=1e-3)

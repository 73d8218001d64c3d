"""DIST: against numpy's correlation coefficients, what correlation forgives, and batches of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.methods import Terms, create
from kd_engine.methods.dist import correlation
from kd_engine.signals import Signals
from tests.engine.toy_logits import QUICK, draw, softmax


def dist(student: Tensor, teacher: Tensor, **knobs: object) -> Terms:
    return create("dist", **knobs)(Signals(student), Signals(teacher), torch.zeros(1))


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Covariance over deviations, with the reference's 1e-8 beside the lengths."""
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (np.sqrt((a**2).sum()) * np.sqrt((b**2).sum()) + 1e-8))


def reference(student: np.ndarray, teacher: np.ndarray, temperature: float) -> tuple[float, float]:
    q, p = (softmax(z / temperature) for z in (student, teacher))
    rows = [1 - pearson(a, b) for a, b in zip(q, p, strict=True)]
    columns = [1 - pearson(a, b) for a, b in zip(q.T, p.T, strict=True)]
    return temperature**2 * float(np.mean(rows)), temperature**2 * float(np.mean(columns))


@QUICK
@given(
    samples=st.integers(2, 7),
    classes=st.integers(2, 9),
    temperature=st.floats(1, 20),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(samples: int, classes: int, temperature: float, seed: int) -> None:
    student, teacher = draw((samples, classes), seed), draw((samples, classes), seed + 1)
    inter, intra = reference(student.numpy(), teacher.numpy(), temperature)
    knobs = {"temperature": temperature, "inter_weight": 0.5, "intra_weight": 3.0}
    terms = dist(student, teacher, **knobs)
    assert list(terms) == ["dist_inter", "dist_intra"]
    assert terms["dist_inter"].item() == pytest.approx(0.5 * inter, rel=1e-9, abs=1e-9)
    assert terms["dist_intra"].item() == pytest.approx(3 * intra, rel=1e-9, abs=1e-9)
    single = dist(student.float(), teacher.float(), **knobs)
    slack = temperature**2 * 1e-5  # of 1 − ρ, which is a difference of numbers near 1
    assert single["dist_inter"].item() == pytest.approx(0.5 * inter, rel=1e-5, abs=slack)
    assert single["dist_intra"].item() == pytest.approx(3 * intra, rel=1e-5, abs=3 * slack)


@QUICK
@given(rows=st.integers(1, 6), width=st.integers(2, 9), seed=st.integers(0, 1000))
def test_a_correlation_is_numpys(rows: int, width: int, seed: int) -> None:
    a, b = draw((rows, width), seed), draw((rows, width), seed + 1)
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    assert correlation(a, b).shape == (rows, 1)
    np.testing.assert_allclose(correlation(a, b).squeeze(1).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_correlation_ignores_scale_and_shift_and_knows_a_mirror_image() -> None:
    a, b = draw((4, 9), 1), draw((4, 9), 2)
    torch.testing.assert_close(correlation(5 * a + 2, b / 3 - 1), correlation(a, b))
    torch.testing.assert_close(correlation(-a, b), -correlation(a, b))
    torch.testing.assert_close(correlation(a, a), torch.ones(4, 1).double())


def test_it_is_zero_at_equality_and_at_most_twice_the_square_of_the_temperature() -> None:
    student, teacher = draw((6, 5), 3), draw((6, 5), 4)
    for term in dist(teacher.clone(), teacher).values():
        assert term.item() == pytest.approx(0, abs=1e-4)
    for term in dist(student, teacher).values():
        assert 0 < term.item() <= 2 * 16


def test_a_constant_added_to_a_row_of_logits_changes_nothing_and_a_scale_does() -> None:
    student, teacher = draw((6, 5), 5), draw((6, 5), 6)
    plain, shifted = dist(student, teacher), dist(student + draw((6, 1), 7), teacher)
    scaled, standard = dist(3 * student, teacher), dist(student, teacher, standardise=True)
    for name, term in plain.items():
        torch.testing.assert_close(shifted[name], term)
        assert abs(scaled[name] - term) > 1e-3
        assert abs(standard[name] - term) > 1e-3
    again = dist(3 * student, teacher, standardise=True)
    for name, term in standard.items():
        torch.testing.assert_close(again[name], term, rtol=1e-4, atol=0)


def test_a_batch_of_one_has_no_relation_between_samples() -> None:
    student = draw((1, 5), 8).requires_grad_()
    terms = dist(student, draw((1, 5), 9))
    assert terms["dist_intra"].item() == 0
    assert terms["dist_inter"].item() > 0
    (grad,) = torch.autograd.grad(terms["dist_inter"] + terms["dist_intra"], student)
    assert grad.isfinite().all()


def test_samples_that_are_all_alike_give_finite_losses_and_gradients() -> None:
    student = torch.zeros(4, 5, requires_grad=True)
    terms = dist(student, draw((4, 5), 10).float())
    assert [term.item() for term in terms.values()] == pytest.approx([16.0, 16.0])  # correlation 0
    (grad,) = torch.autograd.grad(terms["dist_inter"] + terms["dist_intra"], student)
    assert grad.isfinite().all()


def test_a_temperature_for_each_sample_weighs_rows_by_their_own_square() -> None:
    student, teacher = draw((5, 6), 11), draw((5, 6), 12)
    knobs = {"temperature": 6.0, "temperature_schedule": "confidence", "temperature_final": 2.0}
    heat = (2 + 4 * teacher.softmax(-1).amax(-1, keepdim=True)).numpy()
    q, p = (softmax(z.numpy() / heat) for z in (student, teacher))
    rows = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)]
    columns = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)]
    terms = dist(student, teacher, **knobs)
    assert terms["dist_inter"].item() == pytest.approx(np.mean(heat[:, 0] ** 2 * rows), rel=1e-5)
    assert terms["dist_intra"].item() == pytest.approx(np.mean(heat**2) * np.mean(columns), rel=1e-5)

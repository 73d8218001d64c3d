"""Soft targets against a float64 reference written from the formula, and its identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.methods import create
from kd_engine.methods._logits import soft_targets, standardised
from kd_engine.signals import Signals

QUICK = settings(max_examples=25, derandomize=True, deadline=None, database=None)
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3).flatmap(
    lambda leading: st.integers(2, 12).map(lambda classes: (*leading, classes))
)


def log_softmax(z: np.ndarray) -> np.ndarray:
    shifted = z - z.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def reference(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """T² / N · Σ p_t (log p_t − log p_s), in float64."""
    ours, theirs = log_softmax(student / temperature), log_softmax(teacher / temperature)
    rows = student.size // student.shape[-1]
    return float(temperature**2 * (np.exp(theirs) * (theirs - ours)).sum() / rows)


def logits(shape: tuple[int, ...], seed: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def kd(student: Tensor, teacher: Tensor, temperature: float = 4.0, **knobs: object) -> Tensor:
    method = create("kd", temperature=temperature, **knobs)
    terms = method(Signals(student), Signals(teacher), torch.zeros(1))
    assert list(terms) == ["kd"]
    return terms["kd"]


@QUICK
@given(shape=shapes, seed=st.integers(0, 1000), temperature=st.floats(1, 20))
def test_it_equals_the_formula_over_all_leading_dimensions(
    shape: tuple[int, ...], seed: int, temperature: float
) -> None:
    student, teacher = logits(shape, seed), logits(shape, seed + 1)
    expected = reference(student.double().numpy(), teacher.double().numpy(), temperature)
    exact = kd(student.double(), teacher.double(), temperature)
    assert exact.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert kd(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_value_worked_out_by_hand() -> None:
    # T = 1, teacher (3/4, 1/4), student (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2)
    teacher, student = torch.tensor([[3.0, 1.0]]).log(), torch.zeros(1, 2)
    assert kd(student, teacher, 1.0).item() == pytest.approx(
        0.75 * np.log(1.5) + 0.25 * np.log(0.5), rel=1e-6
    )


def test_it_is_zero_with_zero_gradient_when_the_student_says_the_same() -> None:
    student = logits((8, 10), 0).requires_grad_()
    loss = kd(student, student.detach().clone())
    assert loss.item() == 0.0
    (grad,) = torch.autograd.grad(loss, student)
    assert grad.abs().max() < 1e-6


def test_a_constant_added_to_a_row_changes_nothing() -> None:
    student, teacher = logits((8, 10), 1).double(), logits((8, 10), 2).double()
    ours, theirs = logits((8, 1), 3).double(), logits((8, 1), 4).double()
    torch.testing.assert_close(kd(student + ours, teacher + theirs), kd(student, teacher))


def test_the_gradient_is_temperature_times_the_difference_of_probabilities() -> None:
    student, teacher, temperature = (
        logits((6, 9), 5).double().requires_grad_(),
        logits((6, 9), 6).double(),
        3.0,
    )
    (grad,) = torch.autograd.grad(kd(student, teacher, temperature), student)
    ours, theirs = (z.detach().div(temperature).softmax(-1) for z in (student, teacher))
    torch.testing.assert_close(grad, temperature * (ours - theirs) / 6)


def test_a_high_temperature_tends_to_matching_centred_logits() -> None:
    # Hinton et al., section 2.1: T² KL → |(z_s − mean) − (z_t − mean)|² / 2C
    student, teacher = logits((5, 7), 7).double(), logits((5, 7), 8).double()
    gap = student - student.mean(-1, keepdim=True) - (teacher - teacher.mean(-1, keepdim=True))
    limit = gap.square().sum(-1).mean() / (2 * 7)
    torch.testing.assert_close(soft_targets(student, teacher, 1e5), limit, rtol=1e-4, atol=0)
    assert abs(soft_targets(student, teacher, 1.0) - limit) > 0.05 * limit  # and not before


def test_it_does_not_depend_on_how_often_a_batch_is_repeated() -> None:
    student, teacher = logits((4, 10), 9), logits((4, 10), 10)
    torch.testing.assert_close(kd(student.repeat(3, 1), teacher.repeat(3, 1)), kd(student, teacher))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher = logits((16, 100), 11).to(dtype), logits((16, 100), 12).to(dtype)
    expected = reference(student.double().numpy(), teacher.double().numpy(), 4.0)
    loss = kd(student, teacher)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_logits_at_the_end_of_fp16_stay_finite() -> None:
    student = torch.tensor([[6e4, -6e4, 0.0]], dtype=torch.float16, requires_grad=True)
    teacher = torch.tensor([[-6e4, 6e4, 0.0]], dtype=torch.float16)
    loss = kd(student, teacher, 1.0)
    (grad,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(120000 - 2 * 16, rel=1e-3)  # 6e4 is 59968 + 32 in fp16
    assert grad.isfinite().all()


def test_a_live_temperature_acts_at_the_next_call() -> None:
    student, teacher = logits((4, 5), 13), logits((4, 5), 14)
    method = create("kd", temperature=2.0)
    before = method(Signals(student), Signals(teacher), torch.zeros(4))["kd"]
    method.knobs = method.knobs.model_copy(update={"temperature": 8.0})
    after = method(Signals(student), Signals(teacher), torch.zeros(4))["kd"]
    assert before == kd(student, teacher, 2.0)
    assert after == kd(student, teacher, 8.0)


def test_one_temperature_for_each_sample_is_the_mean_of_the_samples_losses() -> None:
    student, teacher = logits((5, 7), 15).double(), logits((5, 7), 16).double()
    heats = torch.linspace(1, 20, 5).double().unsqueeze(1)
    each = [
        reference(student[i : i + 1].numpy(), teacher[i : i + 1].numpy(), heats[i].item()) for i in range(5)
    ]
    assert soft_targets(student, teacher, heats).item() == pytest.approx(np.mean(each), rel=1e-10)
    same = torch.full((5, 1), 4.0).double()
    torch.testing.assert_close(soft_targets(student, teacher, same), soft_targets(student, teacher, 4.0))
    gap = student - student.mean(-1, keepdim=True) - (teacher - teacher.mean(-1, keepdim=True))
    limit = gap.square().sum(-1).mean() / (2 * 7)
    torch.testing.assert_close(soft_targets(student, teacher, 1e4 * heats), limit, rtol=1e-3, atol=0)


# ---- standardised logits


@QUICK
@given(shape=shapes.filter(lambda shape: shape[-1] > 2), seed=st.integers(0, 1000))
def test_standardised_logits_are_those_of_the_formula(shape: tuple[int, ...], seed: int) -> None:
    rows = logits(shape, seed).flatten(0, -2).double()
    z = rows.numpy()
    expected = (z - z.mean(1, keepdims=True)) / (z.std(1, ddof=1, keepdims=True) + 1e-7)
    np.testing.assert_allclose(standardised(rows).numpy(), expected, rtol=1e-10, atol=1e-12)


def test_standardised_distillation_ignores_shift_and_scale_of_each_row() -> None:
    student, teacher = logits((6, 9), 17).double(), logits((6, 9), 18).double()
    scale, shift = logits((6, 1), 19, 0.5).double().exp(), 10 * logits((6, 1), 20).double()
    plain = kd(student, teacher, 2.0, standardise=True)
    torch.testing.assert_close(
        kd(student * scale + shift, teacher / scale - shift, 2.0, standardise=True), plain, rtol=1e-5, atol=0
    )
    assert kd(5 * teacher - 3, teacher, 2.0, standardise=True).item() == pytest.approx(0, abs=1e-12)
    assert abs(kd(student, teacher, 2.0) - plain) > 0.1 * plain
    ours, theirs = (standardised(z).numpy() for z in (student, teacher))
    assert plain.item() == pytest.approx(reference(ours, theirs, 2.0), rel=1e-10)


def test_standardising_a_row_of_equal_logits_gives_zeros_and_a_finite_gradient() -> None:
    flat = torch.full((2, 5), 3.0, requires_grad=True)
    loss = kd(flat, logits((2, 5), 21), standardise=True)
    (grad,) = torch.autograd.grad(loss, flat)
    assert loss.isfinite()
    assert grad.isfinite().all()


def test_standardised_logits_at_the_end_of_fp16_stay_finite() -> None:
    student = torch.tensor([[6e4, -6e4, 0.0, 6e4]], dtype=torch.float16, requires_grad=True)
    teacher = torch.tensor([[-6e4, 6e4, 0.0, 5e4]], dtype=torch.float16)
    loss = kd(student, teacher, 1.0, standardise=True)
    (grad,) = torch.autograd.grad(loss, student)
    expected = [standardised(z.detach().double()).numpy() for z in (student, teacher)]
    assert loss.item() == pytest.approx(reference(*expected, 1.0), rel=1e-5)
    assert grad.isfinite().all()

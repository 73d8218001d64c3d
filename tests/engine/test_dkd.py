"""Decoupled KD: against its formula, its identity with soft targets, withheld labels, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import Terms, create
from kd_engine.schedules import Clock
from kd_engine.signals import Shapes, Signals
from kd_engine.tasks import UNLABELLED
from tests.engine.toy_logits import QUICK, draw, draw_labels, kl, softmax


def dkd(student: Tensor, teacher: Tensor, target: Tensor, **knobs: object) -> Terms:
    return create("dkd", **knobs)(Signals(student), Signals(teacher), target)


def reference(
    student: np.ndarray, teacher: np.ndarray, target: np.ndarray, temperature: float
) -> tuple[float, float]:
    """Equations 5 to 7 of the paper, sample by sample, times T²."""
    parts = np.zeros((len(target), 2))
    for i, y in enumerate(target):
        p, q = softmax(teacher[i] / temperature), softmax(student[i] / temperature)
        others = [c for c in range(len(p)) if c != y]
        choice_t, choice_s = (np.array([r[y], r[others].sum()]) for r in (p, q))
        parts[i, 0] = kl(choice_t, choice_s)
        parts[i, 1] = kl(p[others] / p[others].sum(), q[others] / q[others].sum())
    target_part, other_part = temperature**2 * parts.mean(0)
    return float(target_part), float(other_part)


@QUICK
@given(
    samples=st.integers(1, 6),
    classes=st.integers(3, 9),
    temperature=st.floats(1, 20),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(samples: int, classes: int, temperature: float, seed: int) -> None:
    student, teacher = draw((samples, classes), seed), draw((samples, classes), seed + 1)
    target = draw_labels(samples, classes, seed)
    knobs = {"temperature": temperature, "target_weight": 1.5, "nontarget_weight": 2.0}
    choice, others = reference(student.numpy(), teacher.numpy(), target.numpy(), temperature)
    exact = dkd(student, teacher, target, **knobs)
    assert list(exact) == ["dkd_target", "dkd_nontarget"]
    assert exact["dkd_target"].item() == pytest.approx(1.5 * choice, rel=1e-9, abs=1e-12)
    assert exact["dkd_nontarget"].item() == pytest.approx(2 * others, rel=1e-9, abs=1e-12)
    single = dkd(student.float(), teacher.float(), target, **knobs)
    slack = temperature**2 * 1e-6  # a KL is a difference of logarithms, each right to 1e-7
    assert single["dkd_target"].item() == pytest.approx(1.5 * choice, rel=1e-5, abs=slack)
    assert single["dkd_nontarget"].item() == pytest.approx(2 * others, rel=1e-5, abs=slack)


def test_the_reference_codes_mask_of_minus_1000_gives_the_same() -> None:
    student, teacher, target = draw((8, 10), 1).float(), draw((8, 10), 2).float(), draw_labels(8, 10, 3)
    mask = 1000.0 * torch.nn.functional.one_hot(target, 10)
    ours, theirs = ((z / 4 - mask).log_softmax(1) for z in (student, teacher))
    expected = 16 * torch.nn.functional.kl_div(ours, theirs, log_target=True, reduction="batchmean")
    term = dkd(student, teacher, target, nontarget_weight=1.0)["dkd_nontarget"]
    torch.testing.assert_close(term, expected)


def test_soft_targets_are_its_two_parts_the_second_by_how_unsure_the_teacher_is() -> None:
    student, teacher, target = draw((1, 7), 4), draw((1, 7), 5), torch.tensor([2])
    unsure = 1 - (teacher / 4).softmax(-1)[0, 2].item()
    terms = dkd(student, teacher, target, target_weight=1.0, nontarget_weight=unsure)
    kd = create("kd")(Signals(student), Signals(teacher), target)["kd"]
    torch.testing.assert_close(sum(terms.values()), kd)


def test_it_is_zero_at_equality_and_unchanged_by_a_constant_added_to_a_row() -> None:
    student, teacher, target = draw((6, 5), 6), draw((6, 5), 7), draw_labels(6, 5, 8)
    for term in dkd(teacher.clone(), teacher, target).values():
        assert term.item() == pytest.approx(0, abs=1e-12)
    plain = dkd(student, teacher, target)
    shifted = dkd(student + draw((6, 1), 9), teacher - draw((6, 1), 10), target)
    for name, term in plain.items():
        torch.testing.assert_close(shifted[name], term)


def test_where_the_label_is_withheld_the_teachers_first_choice_is_the_target() -> None:
    student, teacher = draw((6, 5), 11), draw((6, 5), 12)
    target = draw_labels(6, 5, 13)
    withheld = target.clone()
    withheld[[0, 3]] = UNLABELLED
    target[[0, 3]] = teacher[[0, 3]].argmax(-1)
    assert dkd(student, teacher, withheld) == dkd(student, teacher, target)
    none = torch.full((6,), UNLABELLED)
    assert dkd(student, teacher, none) == dkd(student, teacher, teacher.argmax(-1))


@pytest.mark.parametrize("classes", [1, 2])
def test_fewer_than_three_classes_are_refused_with_the_reason(classes: int) -> None:
    with pytest.raises(KdError, match=f"needs three classes, the data have {classes}: .*'kd'"):
        create("dkd").prepare(Shapes(classes), Shapes(classes))
    create("dkd").prepare(Shapes(3), Shapes(3))


def test_its_weight_warms_up_over_20_of_240_epochs() -> None:
    method = create("dkd")
    for epoch, expected in ((0, 0.0), (5, 0.25), (20, 1.0), (200, 1.0)):
        method.clock = Clock(epoch, epoch / 240)
        assert method.strength(None) == pytest.approx(expected)


def test_standardised_logits_and_a_temperature_for_each_sample_work_in_it() -> None:
    student, teacher, target = draw((6, 5), 14), draw((6, 5), 15), draw_labels(6, 5, 16)
    plain = dkd(student, teacher, target, standardise=True)
    scaled = dkd(5 * student + 1, teacher / 5, target, standardise=True)
    for name, term in plain.items():
        torch.testing.assert_close(scaled[name], term, rtol=1e-4, atol=0)
    knobs = {"temperature": 6.0, "temperature_schedule": "confidence", "temperature_final": 2.0}
    heats = 2 + 4 * teacher.softmax(-1).amax(-1)
    parts = [
        reference(*(z[i : i + 1].numpy() for z in (student, teacher, target)), heats[i].item())
        for i in range(6)
    ]
    terms = dkd(student, teacher, target, nontarget_weight=1.0, **knobs)
    assert [term.item() for term in terms.values()] == pytest.approx(list(np.mean(parts, 0)), rel=1e-9)


def test_logits_at_the_end_of_fp16_stay_finite() -> None:
    student = torch.tensor([[6e4, -6e4, 0.0], [0.0, 6e4, -6e4]], dtype=torch.float16, requires_grad=True)
    teacher = torch.tensor([[-6e4, 6e4, 0.0], [0.0, 6e4, -6e4]], dtype=torch.float16)
    total = sum(dkd(student, teacher, torch.tensor([1, 0]), temperature=1.0).values())
    assert isinstance(total, Tensor)
    (grad,) = torch.autograd.grad(total, student)
    assert total.isfinite()
    assert grad.isfinite().all()

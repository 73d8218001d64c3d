"""Several teachers: against loops over teachers and samples; one teacher is kd; who counts for how much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.methods import create
from kd_engine.methods.multi_teacher import confident
from kd_engine.signals import Signals
from kd_engine.tasks import UNLABELLED
from tests.engine.toy_logits import QUICK, draw, draw_labels, kl, log_softmax, several, softmax


def loss(student: Tensor, teacher: Signals, target: Tensor | None = None, **knobs: object) -> Tensor:
    target = torch.zeros(len(student), dtype=torch.long) if target is None else target
    terms = create("multi-teacher", **knobs)(Signals(student), teacher, target)
    assert list(terms) == ["multi-teacher"]
    return terms["multi-teacher"]


def weights(teachers: list[np.ndarray], target: np.ndarray) -> np.ndarray:
    """Equation 2 of Zhang et al., for each sample and teacher."""
    out = np.zeros((len(target), len(teachers)))
    for i, y in enumerate(target):
        wrong = np.array([-log_softmax(z[i])[y] for z in teachers])
        out[i] = (1 - np.exp(wrong) / np.exp(wrong).sum()) / (len(teachers) - 1)
        if y == UNLABELLED:
            out[i] = 1 / len(teachers)
    return out


def reference(
    student: np.ndarray, teachers: list[np.ndarray], shares: np.ndarray, temperature: float
) -> float:
    total = 0.0
    for i, row in enumerate(student):
        mixed = sum(share * softmax(z[i] / temperature) for share, z in zip(shares[i], teachers, strict=True))
        total += temperature**2 * kl(np.asarray(mixed), softmax(row / temperature))
    return total / len(student)


@QUICK
@given(
    samples=st.integers(1, 6),
    classes=st.integers(2, 9),
    teachers=st.integers(2, 4),
    temperature=st.floats(1, 20),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    samples: int, classes: int, teachers: int, temperature: float, seed: int
) -> None:
    student = draw((samples, classes), seed)
    said = [draw((samples, classes), seed + k + 1) for k in range(teachers)]
    target = draw_labels(samples, classes, seed)
    target[0] = UNLABELLED
    plain = [z.numpy() for z in said]
    even = np.full((samples, teachers), 1 / teachers)
    for combine, shares in (("average", even), ("confidence", weights(plain, target.numpy()))):
        expected = reference(student.numpy(), plain, shares, temperature)
        knobs = {"combine": combine, "temperature": temperature}
        exact = loss(student, several(*said), target, **knobs)
        assert exact.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        single = loss(student.float(), several(*(z.float() for z in said)), target, **knobs)
        assert single.item() == pytest.approx(expected, rel=1e-5, abs=1e-6 * temperature**2)


@pytest.mark.parametrize("combine", ["average", "confidence"])
@pytest.mark.parametrize("make", [Signals, several], ids=["no members", "one member"])
def test_with_one_teacher_it_is_kd(combine: str, make: object) -> None:
    student, teacher = draw((6, 5), 1), draw((6, 5), 2)
    kd = create("kd")(Signals(student), Signals(teacher), torch.zeros(6))["kd"]
    torch.testing.assert_close(loss(student, make(teacher), combine=combine), kd)  # type: ignore[operator]


@pytest.mark.parametrize("combine", ["average", "confidence"])
def test_teachers_that_agree_are_one_teacher_and_their_order_does_not_matter(combine: str) -> None:
    student, first, second = (draw((6, 5), seed) for seed in (3, 4, 5))
    target = draw_labels(6, 5, 6)
    same = loss(student, several(first, first, first), target, combine=combine)
    torch.testing.assert_close(same, loss(student, Signals(first), target))
    one, other = several(first, second), several(second, first)
    torch.testing.assert_close(
        loss(student, one, target, combine=combine), loss(student, other, target, combine=combine)
    )


def test_it_is_zero_when_the_student_says_the_mixture() -> None:
    first, second = draw((6, 5), 7), draw((6, 5), 8)
    mixture = ((first / 4).softmax(-1) + (second / 4).softmax(-1)) / 2
    assert loss(4 * mixture.log(), several(first, second)).item() == pytest.approx(0, abs=1e-12)
    assert loss(first, several(first, second)).item() > 0.01


def test_the_teacher_nearer_to_the_label_counts_more_and_shares_sum_to_one() -> None:
    right, wrong, unsure = torch.tensor([[9.0, 0, 0]]), torch.tensor([[0, 9.0, 0]]), torch.zeros(1, 3)
    shares = confident(torch.stack([right, unsure, wrong]), torch.tensor([0]))
    assert shares.shape == (3, 1, 1)
    assert shares[0] > shares[1] > shares[2]
    assert shares.sum().item() == pytest.approx(1)
    assert (shares >= 0).all()


def test_a_withheld_label_and_no_label_at_all_give_the_average() -> None:
    student, first, second = (draw((6, 5), seed) for seed in (9, 10, 11))
    none = torch.full((6,), UNLABELLED)
    average = loss(student, several(first, second))
    torch.testing.assert_close(
        loss(student, several(first, second), none, combine="confidence"), average, rtol=1e-6, atol=0
    )


def test_shares_come_from_the_plain_logits_also_when_they_are_standardised() -> None:
    student, first, second = (draw((6, 5), seed) for seed in (12, 13, 14))
    target = draw_labels(6, 5, 15)
    shares = weights([first.numpy(), second.numpy()], target.numpy())
    ours, *theirs = (
        ((z - z.mean(1, keepdim=True)) / (z.std(1, keepdim=True) + 1e-7)).numpy()
        for z in (student, first, second)
    )
    term = loss(student, several(first, second), target, combine="confidence", standardise=True)
    assert term.item() == pytest.approx(reference(ours, theirs, shares, 4.0), rel=1e-9)


def test_the_gradient_is_that_of_the_cross_entropies_with_each_teacher() -> None:
    student = draw((6, 5), 16).requires_grad_()
    first, second, target = draw((6, 5), 17), draw((6, 5), 18), draw_labels(6, 5, 19)
    (grad,) = torch.autograd.grad(
        loss(student, several(first, second), target, combine="confidence", temperature=1.0), student
    )
    shares = torch.from_numpy(weights([first.numpy(), second.numpy()], target.numpy()))
    each = sum(
        shares[:, k] * -(z.softmax(-1) * student.log_softmax(-1)).sum(-1)
        for k, z in enumerate((first, second))
    )
    (expected,) = torch.autograd.grad(each.mean(), student)  # type: ignore[union-attr]
    torch.testing.assert_close(grad, expected)


def test_logits_at_the_end_of_fp16_stay_finite() -> None:
    student = torch.tensor([[6e4, -6e4, 0.0]], dtype=torch.float16, requires_grad=True)
    first = torch.tensor([[-6e4, 6e4, 0.0]], dtype=torch.float16)
    for combine in ("average", "confidence"):
        term = loss(student, several(first, -first), torch.tensor([0]), combine=combine, temperature=1.0)
        (grad,) = torch.autograd.grad(term, student)
        assert term.isfinite()
        assert grad.isfinite().all()

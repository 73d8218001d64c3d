"""The virtual teacher: both readings against loops over samples; it looks at no teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import create
from kd_engine.methods.tf_kd import TfKd
from kd_engine.signals import Shapes, Signals
from kd_engine.tasks import UNLABELLED
from tests.engine.toy_logits import QUICK, draw, draw_labels, kl, softmax


def loss(student: Tensor, target: Tensor, teacher: Tensor | None = None, **knobs: object) -> Tensor:
    signals = Signals(student)
    terms = create("tf-kd", **knobs)(signals, signals if teacher is None else Signals(teacher), target)
    assert list(terms) == ["tf-kd"]
    return terms["tf-kd"]


def reference(
    student: np.ndarray, target: np.ndarray, correct: float, temperature: float, softening: str
) -> float:
    each = []
    for z, y in zip(student, target, strict=True):
        if y == UNLABELLED:
            continue
        virtual = np.full(len(z), (1 - correct) / (len(z) - 1))
        virtual[y] = correct
        if softening == "paper":
            soft = virtual ** (1 / temperature) / (virtual ** (1 / temperature)).sum()
            each.append(temperature**2 * kl(soft, softmax(z / temperature)))
        else:
            each.append(kl(softmax(virtual / temperature), softmax(z)))
    return float(np.mean(each)) if each else 0.0


@QUICK
@given(
    samples=st.integers(1, 6),
    classes=st.integers(2, 9),
    correct=st.floats(0.5, 0.999),
    temperature=st.floats(1, 40),
    softening=st.sampled_from(["reference", "paper"]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    samples: int, classes: int, correct: float, temperature: float, softening: str, seed: int
) -> None:
    student, target = draw((samples, classes), seed), draw_labels(samples, classes, seed)
    target[0] = UNLABELLED if seed % 2 else target[0]
    knobs = {"correct": correct, "temperature": temperature, "softening": softening}
    expected = reference(student.numpy(), target.numpy(), correct, temperature, softening)
    assert loss(student, target, **knobs).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    single = loss(student.float(), target, **knobs).item()
    assert single == pytest.approx(expected, rel=1e-5, abs=1e-6 * temperature**2)


def test_it_equals_the_authors_code_for_a_hundred_classes() -> None:
    student, target = draw((8, 100), 1), draw_labels(8, 100, 2)
    virtual = torch.full_like(student, 0.01 / 99).scatter(1, target[:, None], 0.99)
    ours = torch.nn.functional.log_softmax(student, 1)
    expected = 100 * torch.nn.KLDivLoss(reduction="none")(ours, (virtual / 20).softmax(1)).mean()
    torch.testing.assert_close(loss(student, target, correct=0.99), expected)


def test_with_the_papers_reading_it_is_zero_when_the_student_says_what_the_virtual_teacher_says() -> None:
    target = torch.tensor([1, 2])
    perfect = torch.full((2, 3), 0.05).scatter(1, target[:, None], 0.9).log()
    assert loss(perfect, target, softening="paper").item() == pytest.approx(0, abs=1e-4)
    assert loss(perfect, 2 - target, softening="paper").item() > 1


def test_at_temperature_one_the_papers_reading_is_label_smoothing_less_the_teachers_entropy() -> None:
    student, target = draw((8, 5), 3), draw_labels(8, 5, 4)
    smoothed = torch.nn.functional.cross_entropy(
        student, target, label_smoothing=0.125
    )  # 0.9 = 1 − 0.125 · 4/5
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.025))
    term = loss(student, target, softening="paper", temperature=1.0, correct=0.9)
    assert term.item() == pytest.approx(smoothed.item() - entropy, rel=1e-9)


def test_it_looks_at_no_teacher() -> None:
    student, target = draw((6, 5), 5), draw_labels(6, 5, 6)
    assert not TfKd.needs_teacher
    assert loss(student, target) == loss(student, target, draw((6, 5), 7))


def test_a_sample_without_a_label_takes_no_part_and_without_any_the_loss_is_zero_with_a_gradient() -> None:
    student, target = draw((4, 5), 8), draw_labels(4, 5, 9)
    withheld = torch.cat((target, torch.full((3,), UNLABELLED)))
    torch.testing.assert_close(loss(torch.cat((student, draw((3, 5), 10))), withheld), loss(student, target))
    student.requires_grad_()
    none = loss(student, torch.full((4,), UNLABELLED))
    assert none.item() == 0
    (grad,) = torch.autograd.grad(none, student)
    assert not grad.any()


def test_one_class_is_refused() -> None:
    with pytest.raises(KdError, match="with one class"):
        create("tf-kd").prepare(Shapes(1), Shapes(1))


@pytest.mark.parametrize("softening", ["reference", "paper"])
def test_logits_at_the_end_of_fp16_stay_finite(softening: str) -> None:
    student = torch.tensor([[6e4, -6e4, 0.0]], dtype=torch.float16, requires_grad=True)
    term = loss(student, torch.tensor([1]), softening=softening)
    (grad,) = torch.autograd.grad(term, student)
    assert term.isfinite()
    assert grad.isfinite().all()

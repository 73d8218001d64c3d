"""Curriculum temperature: soft targets at the learned temperature, which learns against the student."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.methods import Method, create
from kd_engine.methods.ctkd import Ctkd
from kd_engine.schedules import Clock
from kd_engine.signals import Shapes, Signals
from tests.engine.toy_logits import QUICK, draw, kl, softmax


def ready(classes: int = 5, **knobs: object) -> Ctkd:
    torch.manual_seed(0)
    method: Method = create("ctkd", **knobs)
    method.prepare(Shapes(classes), Shapes(classes))
    assert isinstance(method, Ctkd)
    return method


def loss(method: Method, student: Tensor, teacher: Tensor) -> Tensor:
    terms = method(Signals(student), Signals(teacher), torch.zeros(1))
    assert list(terms) == ["ctkd"]
    return terms["ctkd"]


def kd(student: Tensor, teacher: Tensor, temperature: float) -> float:
    q, p = (softmax(z.detach().numpy() / temperature) for z in (student, teacher))
    return float(temperature**2 * kl(p, q).mean())


@QUICK
@given(
    samples=st.integers(1, 6),
    classes=st.integers(2, 9),
    theta=st.floats(-4, 4),
    lowest=st.floats(1, 5),
    span=st.floats(0, 30),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    samples: int, classes: int, theta: float, lowest: float, span: float, seed: int
) -> None:
    method = ready(classes, lowest=lowest, span=span)
    with torch.no_grad():
        method.predictor.theta.fill_(theta)
    student, teacher = draw((samples, classes), seed), draw((samples, classes), seed + 1)
    temperature = lowest + span / (1 + np.exp(-theta))
    expected = kd(student, teacher, temperature)
    assert loss(method.double(), student, teacher).item() == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_it_starts_at_15_6_as_published() -> None:
    student, teacher = draw((6, 5), 1), draw((6, 5), 2)
    expected = kd(student, teacher, 1 + 20 / (1 + np.exp(-1)))
    assert loss(ready(), student, teacher).item() == pytest.approx(expected, rel=1e-6)


def test_the_student_gets_the_gradient_of_kd_at_that_temperature() -> None:
    student, teacher = draw((6, 5), 3).requires_grad_(), draw((6, 5), 4)
    temperature = 1 + 20 / (1 + np.exp(-1))
    (grad,) = torch.autograd.grad(loss(ready().double(), student, teacher), student)
    ours, theirs = ((z.detach() / temperature).softmax(-1) for z in (student, teacher))
    torch.testing.assert_close(grad, temperature * (ours - theirs) / 6)


@pytest.mark.parametrize(
    ("epoch", "factor"), [(0.0, 0.0), (2.5, -0.146447), (5.0, -0.5), (10.0, -1.0), (200.0, -1.0)]
)
def test_the_temperatures_gradient_is_reversed_more_and_more_over_ten_epochs(
    epoch: float, factor: float
) -> None:
    method = ready().double()
    method.clock = Clock(epoch, epoch / 240)
    student, teacher = draw((6, 5), 5), draw((6, 5), 6)
    (grad,) = torch.autograd.grad(loss(method, student, teacher), method.predictor.theta)
    step = 1e-5

    def value(theta: float) -> float:
        return kd(student, teacher, 1 + 20 / (1 + np.exp(-theta)))

    plain = (value(1 + step) - value(1 - step)) / (2 * step)
    assert plain != pytest.approx(0, abs=1e-3)
    assert grad.item() == pytest.approx(factor * plain, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("scope", ["global", "instance"])
def test_learning_moves_the_temperature_to_where_the_loss_is_larger(scope: str) -> None:
    student, teacher = draw((16, 5), 7).float(), draw((16, 5), 8).float()
    method = ready(scope=scope)
    start = method.predictor.theta if scope == "global" else method.predictor.theta.bias
    with torch.no_grad():
        start.fill_(-3.0)
    before = loss(method, student, teacher).item()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        loss(method, student, teacher).backward()
        optimizer.step()
    assert loss(method, student, teacher).item() > before * 1.01


def test_without_epochs_of_onset_the_reversal_is_whole_at_once() -> None:
    method = ready(reversal_epochs=0.0)
    method.clock = Clock(0.0, 0.0)
    assert method.reversal() == -1.0


def test_each_sample_may_have_a_temperature_of_its_own_between_the_limits() -> None:
    method = ready(scope="instance", lowest=2.0, span=8.0)
    student, teacher = draw((6, 5), 9).float(), draw((6, 5), 10).float()
    theta = method.predictor(student, teacher).detach().double()
    heat = 2 + 8 * theta.sigmoid()
    assert heat.shape == (6, 1)
    assert len(heat.unique()) == 6
    each = [kd(student[i : i + 1], teacher[i : i + 1], heat[i].item()) for i in range(6)]
    assert loss(method, student, teacher).item() == pytest.approx(np.mean(each), rel=1e-4)


def test_the_student_cannot_lower_its_loss_by_way_of_the_predicted_temperature() -> None:
    method = ready(scope="instance")
    student, teacher = draw((6, 5), 11).float().requires_grad_(), draw((6, 5), 12).float()
    (grad,) = torch.autograd.grad(loss(method, student, teacher), student)
    heat = 1 + 20 * method.predictor(student, teacher).sigmoid().detach()
    ours, theirs = ((z.detach() / heat).softmax(-1) for z in (student, teacher))
    torch.testing.assert_close(grad, heat * (ours - theirs) / 6)


@pytest.mark.parametrize("scope", ["global", "instance"])
def test_what_was_learned_is_saved(scope: str) -> None:
    method, again = ready(scope=scope), ready(scope=scope)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.3)
    again.load_state_dict(method.state_dict())
    student, teacher = draw((6, 5), 13).float(), draw((6, 5), 14).float()
    assert loss(again, student, teacher) == loss(method, student, teacher)
    assert loss(ready(scope=scope), student, teacher) != loss(method, student, teacher)


@pytest.mark.parametrize("scope", ["global", "instance"])
def test_logits_at_the_end_of_fp16_stay_finite_also_for_the_temperature(scope: str) -> None:
    student = torch.tensor([[6e4, -6e4, 0.0]], dtype=torch.float16, requires_grad=True)
    teacher = torch.tensor([[-6e4, 6e4, 0.0]], dtype=torch.float16)
    method = ready(3, scope=scope)
    term = loss(method, student, teacher)
    grads = torch.autograd.grad(term, [student, *method.parameters()])
    assert term.isfinite()
    assert all(grad.isfinite().all() for grad in grads)


def test_standardised_logits_lose_their_scale() -> None:
    student, teacher = draw((6, 5), 15), draw((6, 5), 16)
    plain = loss(ready(standardise=True), student, teacher)
    scaled = loss(ready(standardise=True), 4 * student + 1, teacher / 2)
    torch.testing.assert_close(scaled, plain, rtol=1e-5, atol=0)

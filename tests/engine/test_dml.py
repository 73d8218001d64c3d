"""Mutual learning: the mean of soft targets from each peer, at temperature 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.methods import create
from kd_engine.signals import Signals
from tests.engine.toy_logits import QUICK, draw, kl, several, softmax


def loss(student: Tensor, teacher: Signals, **knobs: object) -> Tensor:
    terms = create("dml", **knobs)(Signals(student), teacher, torch.zeros(1))
    assert list(terms) == ["dml"]
    return terms["dml"]


def reference(student: np.ndarray, peers: list[np.ndarray], temperature: float) -> float:
    q = softmax(student / temperature)
    return float(np.mean([temperature**2 * kl(softmax(z / temperature), q).mean() for z in peers]))


@QUICK
@given(
    samples=st.integers(1, 6),
    classes=st.integers(2, 9),
    peers=st.integers(1, 4),
    temperature=st.floats(1, 20),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(samples: int, classes: int, peers: int, temperature: float, seed: int) -> None:
    student = draw((samples, classes), seed)
    said = [draw((samples, classes), seed + k + 1) for k in range(peers)]
    expected = reference(student.numpy(), [z.numpy() for z in said], temperature)
    exact = loss(student, several(*said), temperature=temperature)
    assert exact.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    single = loss(student.float(), several(*(z.float() for z in said)), temperature=temperature)
    assert single.item() == pytest.approx(expected, rel=1e-5, abs=1e-6 * temperature**2)


def test_the_published_temperature_is_one_and_without_members_the_teacher_is_the_peer() -> None:
    student, peer = draw((6, 5), 1), draw((6, 5), 2)
    expected = reference(student.numpy(), [peer.numpy()], 1.0)
    assert loss(student, Signals(peer)).item() == pytest.approx(expected, rel=1e-9)
    assert loss(student, Signals(peer)) == loss(student, several(peer))


def test_it_is_zero_when_all_say_the_same_and_the_order_of_peers_does_not_matter() -> None:
    student, first, second = (draw((6, 5), seed) for seed in (3, 4, 5))
    assert loss(first.clone(), several(first, first)).item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(loss(student, several(first, second)), loss(student, several(second, first)))


def test_no_gradient_goes_to_a_peer() -> None:
    student, first, second = (draw((6, 5), seed).requires_grad_() for seed in (6, 7, 8))
    loss(student, several(first, second)).backward()
    assert student.grad is not None
    assert student.grad.any()
    assert first.grad is None
    assert second.grad is None


def test_each_peer_brings_its_own_temperature_where_it_goes_by_confidence() -> None:
    student, first, second = (draw((6, 5), seed) for seed in (9, 10, 11))
    knobs = {"temperature": 6.0, "temperature_schedule": "confidence", "temperature_final": 2.0}
    each = [
        create("kd", **knobs)(Signals(student), Signals(z), torch.zeros(6))["kd"] for z in (first, second)
    ]
    torch.testing.assert_close(loss(student, several(first, second), **knobs), torch.stack(each).mean())


def test_standardised_logits_lose_their_scale() -> None:
    student, first, second = (draw((6, 5), seed) for seed in (12, 13, 14))
    plain = loss(student, several(first, second), standardise=True)
    scaled = loss(4 * student + 1, several(first / 2, second - 3), standardise=True)
    torch.testing.assert_close(scaled, plain, rtol=1e-5, atol=0)

"""Probabilistic transfer: against a float64 reference, with and without the samples themselves; its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import create
from tests.engine.toy_features import feature, gradient, shapes, signals, single, terms

EPSILON = 1e-7


def pkt(student: Tensor, teacher: Tensor, **knobs: object) -> Tensor:
    return terms("pkt", signals(embedding=student), signals(embedding=teacher), **knobs)["pkt"]


def chances(e: np.ndarray, i: int, with_itself: bool) -> np.ndarray:
    lengths = np.sqrt((e**2).sum(1))
    kernel = ((e @ e[i]) / (lengths * lengths[i]) + 1) / 2
    if not with_itself:
        kernel[i] = 0
    return kernel / kernel.sum()


def reference(student: Tensor, teacher: Tensor, with_itself: bool) -> float:
    n, total = len(student), 0.0
    for i in range(n):
        ours, theirs = (chances(e.numpy(), i, with_itself) for e in (student, teacher))
        total += (theirs * np.log((theirs + EPSILON) / (ours + EPSILON))).sum()
    return total / n**2


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(3, 9),
    widths=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    with_itself=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(batch: int, widths: tuple[int, int], with_itself: bool, seed: int) -> None:
    student, teacher = (feature(batch, width, seed=seed + k) for k, width in enumerate(widths))
    expected = reference(student, teacher, with_itself)
    assert pkt(student, teacher, with_itself=with_itself).item() == pytest.approx(expected, rel=1e-8)
    found = pkt(student.float(), teacher.float(), with_itself=with_itself).item()
    assert found == pytest.approx(expected, rel=1e-5, abs=2e-8)  # a sum of both signs


def test_it_is_zero_for_the_same_directions_and_positive_for_others() -> None:
    e = feature(6, 5, seed=1)
    stretched = e * torch.linspace(0.1, 9, 6)[:, None]
    assert pkt(e, e).item() == 0
    assert pkt(stretched, e).item() == pytest.approx(0, abs=1e-15)
    assert pkt(feature(6, 5, seed=2), e).item() > 1e-4


def test_the_sample_itself_is_counted_unless_asked_otherwise() -> None:
    student, teacher = feature(6, 5, seed=1), feature(6, 5, seed=2)
    assert pkt(student, teacher) == pkt(student, teacher, with_itself=True)
    assert pkt(student, teacher, with_itself=False) > 1.1 * pkt(student, teacher)


@pytest.mark.parametrize("with_itself", [True, False])
def test_small_batches_zero_embeddings_and_opposite_ones_are_finite(with_itself: bool) -> None:
    e = feature(4, 5, seed=1)
    assert pkt(e[:1], -e[:1], with_itself=with_itself).item() == 0
    dead = e.clone()
    dead[1] = 0
    opposite = torch.cat([e[:1], -e[:1], e[:1], -e[:1]])
    for student, teacher in ((dead, e), (e, dead), (opposite, e), (e, opposite), (e[:2], e[2:])):
        leaf = student.clone().requires_grad_()
        loss = pkt(leaf, teacher, with_itself=with_itself)
        assert loss.isfinite()
        assert gradient(loss, leaf).abs().max() < 100


def test_models_without_embedding_are_refused() -> None:
    with pytest.raises(KdError, match="no pooled embeddings in both models: the student has stage1"):
        create("pkt").prepare(shapes(stage1=(3, 4, 4)), shapes(embedding=(8,)))


def test_half_precision_runs_do_not_round_its_products() -> None:
    student, teacher = (single(signals(embedding=feature(8, 6, seed=seed))) for seed in (1, 2))
    plain = terms("pkt", student, teacher)["pkt"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert terms("pkt", student, teacher)["pkt"] == plain

"""Similarity-preserving: against a float64 reference, its invariances, its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import create
from kd_engine.signals import Signals
from tests.engine.toy_features import feature, gradient, shapes, signals, single, terms

shape = st.sampled_from([(3, 4, 4), (5, 2, 3), (17, 6), (8, 1, 1)])


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    return terms("sp", signals(student), signals(teacher))["sp_stage1"]


def reference(student: Tensor, teacher: Tensor) -> float:
    total, n = 0.0, len(student)
    for i in range(n):
        rows = []
        for f in (student.numpy().reshape(n, -1), teacher.numpy().reshape(n, -1)):
            row = np.array([f[i] @ f[j] for j in range(n)])
            rows.append(row / np.sqrt(row @ row))
        total += ((rows[1] - rows[0]) ** 2).sum()
    return total / n**2


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(2, 7), ours=shape, theirs=shape, seed=st.integers(0, 1000))
def test_it_equals_the_formula_whatever_the_shapes(
    batch: int, ours: tuple[int, ...], theirs: tuple[int, ...], seed: int
) -> None:
    student, teacher = feature(batch, *ours, seed=seed), feature(batch, *theirs, seed=seed + 1)
    expected = reference(student, teacher)
    assert sp(student, teacher).item() == pytest.approx(expected, rel=1e-10)
    assert sp(student.float(), teacher.float()).item() == pytest.approx(expected, rel=1e-5)


def test_it_is_zero_for_equal_features_and_for_a_multiple_or_a_rotation_of_them() -> None:
    f = feature(5, 6, 3, 3, seed=1)
    assert sp(f, f).item() == 0
    assert sp(-3 * f, f).item() == pytest.approx(0, abs=1e-25)
    assert sp(f.flip(1, 2), f).item() == pytest.approx(0, abs=1e-25)
    assert sp(f.flip(0), f).item() > 1e-3


def test_the_last_stage_is_compared_and_all_where_asked() -> None:
    student = signals(*(feature(4, c, 4, 4, seed=c) for c in (2, 3, 4)))
    teacher = signals(*(feature(4, c, 4, 4, seed=c) for c in (5, 6, 7, 8)))
    last = terms("sp", student, teacher)
    assert list(last) == ["sp_stage3"]
    assert last["sp_stage3"] == sp(student.taps["stage3"], teacher.taps["stage4"])
    several = terms("sp", student, teacher, stages="all")
    assert list(several) == ["sp_stage1", "sp_stage2", "sp_stage3"]
    assert several["sp_stage1"] == sp(student.taps["stage1"], teacher.taps["stage2"])


def test_a_convolutional_student_learns_from_a_transformers_last_block() -> None:
    student = signals(feature(4, 3, 4, 4, seed=1), embedding=feature(4, 3, seed=2))
    blocks = {f"block{k}": feature(4, 17, 8, seed=k) for k in range(1, 12)}
    found = terms("sp", student, signals(**blocks))
    assert found == {"sp_stage1": sp(student.taps["stage1"], blocks["block11"])}


def test_a_batch_of_one_and_a_dead_sample_give_finite_numbers_and_gradients() -> None:
    f = feature(4, 3, 2, 2, seed=1)
    assert sp(f[:1], -f[:1]).item() == 0
    dead = f.clone()
    dead[2] = 0
    dead.requires_grad_()
    loss = sp(dead, f)
    assert loss.isfinite()
    assert gradient(loss, dead).abs().max() < 10  # F.normalize hands on 1e12 times the neighbours


def test_models_without_features_are_refused_with_what_they_have() -> None:
    with pytest.raises(KdError, match=r"no features before pooling.*the teacher embedding; use .*'kd'"):
        create("sp").prepare(shapes(stage1=(3, 4, 4)), shapes(embedding=(8,)))


def test_half_precision_runs_do_not_round_its_products() -> None:
    student, teacher = (single(signals(feature(6, 4, 4, 4, seed=seed, scale=300))) for seed in (1, 2))
    plain = terms("sp", student, teacher)["sp_stage1"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert terms("sp", student, teacher)["sp_stage1"] == plain


def test_fp16_features_are_computed_in_float32() -> None:
    student, teacher = ((feature(4, 8, 4, 4, seed=seed, scale=1000)).half() for seed in (1, 2))
    found = terms("sp", Signals(torch.zeros(4, 2), {"stage1": student}), signals(teacher))["sp_stage1"]
    assert found.item() == pytest.approx(reference(student.double(), teacher.double()), rel=1e-5)

"""Correlation congruence: both forms against float64 references, the batch's order, its trained parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import Method, create
from kd_engine.methods.cc import kernel
from tests.engine.toy_features import feature, gradient, shapes, signals, single, terms, unit


def prepared(student: Tensor, teacher: Tensor, **knobs: object) -> Method:
    torch.manual_seed(0)
    method = create("cc", **knobs)
    method.prepare(signals(embedding=student).shapes(), signals(embedding=teacher).shapes())
    return method.to(student.dtype)


def cc(student: Tensor, teacher: Tensor, **knobs: object) -> Tensor:
    method = prepared(student, teacher, **knobs)
    return method(signals(embedding=student), signals(embedding=teacher), torch.zeros(1))["cc"]


def embedded(method: Method, student: Tensor, teacher: Tensor) -> tuple[np.ndarray, np.ndarray]:
    state = {name: tensor.numpy() for name, tensor in method.state_dict().items()}
    return (
        student.numpy() @ state["of_student.weight"].T + state["of_student.bias"],
        teacher.numpy() @ state["of_teacher.weight"].T + state["of_teacher.bias"],
    )


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(2, 8), width=st.integers(1, 8), seed=st.integers(0, 1000))
def test_the_references_form_equals_its_formula(batch: int, width: int, seed: int) -> None:
    student, teacher = feature(batch, 5, seed=seed), feature(batch, 3, seed=seed + 1)
    ours, theirs = embedded(prepared(student, teacher, width=width), student, teacher)
    gap = np.abs(ours - theirs)
    expected = np.mean([gap[i] @ gap[i + 1] for i in range(batch - 1)])
    assert cc(student, teacher, width=width).item() == pytest.approx(expected, rel=1e-10)
    assert cc(student.float(), teacher.float(), width=width).item() == pytest.approx(expected, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(2, 8), gamma=st.floats(0.1, 2), order=st.integers(1, 5), seed=st.integers(0, 1000))
def test_the_papers_form_equals_its_formula(batch: int, gamma: float, order: int, seed: int) -> None:
    student, teacher = feature(batch, 5, seed=seed), feature(batch, 3, seed=seed + 1)
    knobs = {"form": "paper", "width": 6, "gamma": gamma, "order": order}
    kernels = []
    for e in embedded(prepared(student, teacher, **knobs), student, teacher):
        cosine = unit(e) @ unit(e).T
        powers = sum((2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1))
        kernels.append(np.exp(-2 * gamma) * powers)
    expected = ((kernels[0] - kernels[1]) ** 2).mean()
    assert cc(student, teacher, **knobs).item() == pytest.approx(expected, rel=1e-10)


def test_the_kernel_tends_to_the_gaussian_of_the_distance() -> None:
    e = feature(5, 4, seed=1)
    u = unit(e.numpy())
    gaussian = np.exp(-0.4 * ((u[:, None] - u[None]) ** 2).sum(2))
    np.testing.assert_allclose(kernel(e, 0.4, 15).numpy(), gaussian, rtol=1e-12)
    np.testing.assert_allclose(kernel(e, 0.4, 2).numpy(), gaussian, rtol=0.1)


def test_only_the_references_form_depends_on_the_order_of_the_batch() -> None:
    student, teacher = feature(6, 5, seed=1), feature(6, 3, seed=2)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert type(create("cc")).depends_on_order
    plain, moved = cc(student, teacher), cc(student[order], teacher[order])
    assert abs(moved - plain) > 1e-4 * plain
    plain, moved = (cc(s, t, form="paper") for s, t in ((student, teacher), (student[order], teacher[order])))
    torch.testing.assert_close(moved, plain)


def test_it_owns_two_embeddings_of_128_that_are_trained() -> None:
    student, teacher = feature(6, 5, seed=1), feature(6, 3, seed=2)
    method = prepared(student, teacher)
    sizes = {name: tuple(p.shape) for name, p in method.named_parameters()}
    assert sizes == {
        "of_student.weight": (128, 5),
        "of_student.bias": (128,),
        "of_teacher.weight": (128, 3),
        "of_teacher.bias": (128,),
    }
    optimizer = torch.optim.SGD(method.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        loss = method(signals(embedding=student), signals(embedding=teacher), torch.zeros(1))["cc"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("form", ["reference", "paper"])
def test_a_batch_of_one_gives_zero_and_a_finite_gradient(form: str) -> None:
    student = feature(1, 5, seed=1).requires_grad_()
    loss = cc(student, feature(1, 3, seed=2), form=form)
    assert loss.item() == pytest.approx(0, abs=1e-30)
    assert gradient(loss, student).isfinite().all()


@pytest.mark.parametrize("form", ["reference", "paper"])
def test_half_precision_runs_do_not_round_its_products(form: str) -> None:
    student, teacher = (single(signals(embedding=feature(8, 6, seed=seed))) for seed in (1, 2))
    plain = terms("cc", student, teacher, form=form)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert terms("cc", student, teacher, form=form) == plain


def test_models_without_embedding_are_refused() -> None:
    with pytest.raises(KdError, match=r"no pooled embeddings in both models.*the teacher stage1"):
        create("cc").prepare(shapes(embedding=(8,)), shapes(stage1=(3, 4, 4)))

"""Reused teacher classifier: the loss against a float64 reference, with and without a graft."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import create
from kd_engine.methods.simkd import SimKd
from kd_engine.signals import Shapes, Signals

sides = st.sampled_from([(2, 2), (4, 4), (4, 2), (6, 3), (1, 1), (8, 8)])


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def said(**taps: Tensor) -> Signals:
    return Signals(torch.zeros(len(next(iter(taps.values()))), 3), taps)


def prepared(student: Signals, teacher: Signals, **knobs: object) -> SimKd:
    torch.manual_seed(0)
    method = create("simkd", **knobs)
    theirs = teacher.shapes()
    method.prepare(student.shapes(), Shapes(theirs.classes, theirs.taps, classifier=True))
    assert isinstance(method, SimKd)
    return method.double()


def pool(f: np.ndarray, height: int, width: int) -> np.ndarray:
    out = np.zeros((*f.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            rows = slice(i * f.shape[2] // height, -(-(i + 1) * f.shape[2] // height))
            columns = slice(j * f.shape[3] // width, -(-(j + 1) * f.shape[3] // width))
            out[:, :, i, j] = f[:, :, rows, columns].mean((2, 3))
    return out


def convolved(f: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """With zeros around, then BatchNorm over the batch, then ReLU."""
    reach = weight.shape[2] // 2
    padded = np.pad(f, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    height, width = f.shape[2:]
    out = sum(
        np.einsum("oc,nchw->nohw", weight[:, :, i, j], padded[:, :, i : i + height, j : j + width])
        for i in range(weight.shape[2])
        for j in range(weight.shape[3])
    )
    assert isinstance(out, np.ndarray)
    out = (out - out.mean((0, 2, 3), keepdims=True)) / np.sqrt(out.var((0, 2, 3), keepdims=True) + 1e-5)
    return np.maximum(out, 0)


@settings(max_examples=20, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(2, 4),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 6)),
    sizes=st.tuples(sides, sides),
    factor=st.sampled_from([1, 2, 8]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int,
    channels: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    factor: int,
    seed: int,
) -> None:
    student, teacher = (
        noise((batch, c, *size), seed + k) for k, (c, size) in enumerate(zip(channels, sizes, strict=True))
    )
    method = prepared(said(stage1=student), said(stage1=teacher), factor=factor)
    common = [min(a, b) for a, b in zip(*sizes, strict=True)]
    f = pool(student.numpy(), *common)
    kernels = [
        w.numpy() for name, w in method.state_dict().items() if name.endswith("weight") and w.ndim == 4
    ]
    assert [k.shape[0] for k in kernels] == [max(1, channels[1] // factor)] * 2 + [channels[1]]
    assert [k.shape[2] for k in kernels] == [1, 3, 1]
    for kernel in kernels:
        f = convolved(f, kernel)
    expected = ((f - pool(teacher.numpy(), *common)) ** 2).mean()
    term = method(said(stage1=student), said(stage1=teacher), torch.zeros(batch))["simkd"]
    assert term.item() == pytest.approx(expected, rel=1e-8)


def test_one_sample_with_one_place_gives_a_finite_loss() -> None:
    student, teacher = said(stage1=noise((1, 3, 1, 1), 1)), said(stage1=noise((1, 4, 2, 2), 2))
    assert prepared(student, teacher)(student, teacher, torch.zeros(1))["simkd"].isfinite()


def test_a_grafted_student_brings_its_projection_and_the_method_owns_nothing() -> None:
    student, teacher = noise((3, 5, 2, 2), 1), noise((3, 5, 4, 4), 2)
    both = said(stage1=noise((3, 2, 2, 2), 3), projected=student), said(stage1=teacher)
    method = prepared(*both)
    assert method.student_taps(both[0].shapes(), both[1].shapes()) == ("projected",)
    assert not list(method.parameters())
    expected = ((student.numpy() - pool(teacher.numpy(), 2, 2)) ** 2).mean()
    assert method(*both, torch.zeros(3))["simkd"].item() == pytest.approx(expected)
    same = method(both[0], said(stage1=student), torch.zeros(3))["simkd"]
    assert same.item() == 0.0


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (Shapes(2, {"block1": (4, 2)}), Shapes(2, {"stage1": (4, 2, 2)}, classifier=True), "no last map"),
        (Shapes(2, {"stage1": (4, 2, 2)}), Shapes(2, {"stage1": (4, 2, 2)}), "this teacher has none"),
        (
            Shapes(2, {"stage1": (4, 2, 2)}),
            Shapes(3, {"stage1": (4, 2, 2)}, classifier=True),
            "2 classes, the teacher 3",
        ),
    ],
)
def test_what_it_cannot_work_with_is_refused_with_the_reason(
    student: Shapes, teacher: Shapes, message: str
) -> None:
    with pytest.raises(KdError, match=message):
        create("simkd").prepare(student, teacher)

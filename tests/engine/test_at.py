"""Attention transfer: against a float64 reference written from the formula; its pairs, its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.activity import activity
from kd_engine.errors import KdError
from kd_engine.methods import Terms, create
from kd_engine.signals import Signals

sides = st.sampled_from([(2, 2), (4, 4), (4, 8), (6, 3), (8, 8), (7, 7)])


def feature(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def signals(*maps: Tensor, **others: Tensor) -> Signals:
    stages = {f"stage{k + 1}": tensor for k, tensor in enumerate(maps)}
    return Signals(torch.zeros(len(maps[0]) if maps else 3, 2), {**stages, **others})


def at(student: Signals, teacher: Signals, **knobs: object) -> Terms:
    return create("at", **knobs)(student, teacher, torch.zeros(1))


def pool(f: np.ndarray, height: int, width: int) -> np.ndarray:
    """Means over the cells of a (height, width) grid; cells overlap where sizes do not divide."""
    out = np.zeros((*f.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            rows = slice(i * f.shape[2] // height, -(-(i + 1) * f.shape[2] // height))
            columns = slice(j * f.shape[3] // width, -(-(j + 1) * f.shape[3] // width))
            out[:, :, i, j] = f[:, :, rows, columns].mean((2, 3))
    return out


def reference(student: np.ndarray, teacher: np.ndarray, p: int, reduction: str) -> float:
    height, width = np.minimum(student.shape[2:], teacher.shape[2:])
    maps = []
    for f in (student, teacher):
        f = pool(f, height, width)
        over_channels = np.sum if reduction == "paper" else np.mean
        energy = over_channels(np.abs(f) ** p, axis=1).reshape(len(f), -1)
        maps.append(energy / np.sqrt((energy**2).sum(1, keepdims=True)))
    gap = maps[0] - maps[1]
    return float(np.sqrt((gap**2).sum(1)).mean() if reduction == "paper" else (gap**2).mean())


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(1, 4),
    channels=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    sizes=st.tuples(sides, sides),
    p=st.integers(1, 4),
    reduction=st.sampled_from(["reference", "paper"]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int,
    channels: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    p: int,
    reduction: str,
    seed: int,
) -> None:
    student = feature((batch, channels[0], *sizes[0]), seed)
    teacher = feature((batch, channels[1], *sizes[1]), seed + 1)
    expected = reference(student.double().numpy(), teacher.double().numpy(), p, reduction)
    for dtype, rel in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        term = at(signals(student.to(dtype)), signals(teacher.to(dtype)), p=p, reduction=reduction)[
            "at_stage1"
        ]
        assert term.item() == pytest.approx(expected, rel=rel, abs=1e-7)


def test_one_term_a_stage_and_neither_stem_nor_embedding() -> None:
    maps = [feature((2, 4, size, size), size) for size in (8, 4, 2)]
    others = {"stem": feature((2, 4, 8, 8), 1), "embedding": feature((2, 4), 2)}
    teacher = signals(*(feature((2, 6, size, size), 9) for size in (8, 4, 2)), **others)
    terms = at(signals(*maps, **others), teacher)
    assert list(terms) == ["at_stage1", "at_stage2", "at_stage3"]
    only = at(signals(*maps, **others), teacher, stages="last")
    assert only == {"at_stage3": terms["at_stage3"]}


def test_stages_are_paired_from_the_last_backwards() -> None:
    student = signals(feature((2, 4, 4, 4), 1), feature((2, 4, 2, 2), 2))
    teacher_maps = [feature((2, 6, size, size), 5) for size in (8, 4, 2)]
    terms = at(student, signals(*teacher_maps))
    assert list(terms) == ["at_stage1", "at_stage2"]
    assert terms == at(student, signals(*teacher_maps[1:]))
    method = create("at")
    shapes = student.shapes(), signals(*teacher_maps).shapes()
    assert method.student_taps(*shapes) == ("stage1", "stage2")
    assert method.teacher_taps(*shapes) == ("activity2.stage2", "activity2.stage3")


def test_ten_stages_are_in_the_order_of_their_numbers() -> None:
    many = signals(*(feature((1, 2, 2, 2), k) for k in range(11)))
    assert list(at(many, many))[-2:] == ["at_stage10", "at_stage11"]


@pytest.mark.parametrize("reduction", ["reference", "paper"])
def test_it_is_zero_with_a_finite_gradient_at_equality_and_where_a_map_is_dead(reduction: str) -> None:
    f = feature((3, 4, 4, 4), 1).requires_grad_()
    same = at(signals(f), signals(f.detach().clone()), reduction=reduction)["at_stage1"]
    assert same.item() == 0.0
    dead = torch.zeros(3, 4, 4, 4, requires_grad=True)
    gone = at(signals(dead), signals(f), reduction=reduction)["at_stage1"]
    for loss, leaf in ((same, f), (gone, dead)):
        (grad,) = torch.autograd.grad(loss, leaf)
        assert grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-3, 100.0, -2.0])
def test_the_scale_and_sign_of_a_map_and_the_order_of_channels_do_not_matter(scale: float) -> None:
    student, teacher = feature((3, 4, 4, 4), 1), feature((3, 5, 4, 4), 2)
    plain = at(signals(student), signals(teacher))["at_stage1"]
    other = at(signals(scale * student.flip(1)), signals(teacher * abs(scale)))["at_stage1"]
    torch.testing.assert_close(other, plain)


@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_its_own_gradient_is_the_numerical_one_and_autograds(
    p: int, memory_format: torch.memory_format
) -> None:
    f = feature((2, 3, 4, 4), 3).double().contiguous(memory_format=memory_format).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: activity(x, p).flatten(1), (f,))
    plain = torch.nn.functional.normalize(f.abs().pow(p).mean(1).flatten(1))
    weights = feature((2, 16), 4).double()
    (ours,) = torch.autograd.grad((activity(f, p).flatten(1) * weights).sum(), f)
    (theirs,) = torch.autograd.grad((plain * weights).sum(), f)
    torch.testing.assert_close(ours, theirs)


def test_fp16_maps_whose_squares_overflow_are_computed_in_float32() -> None:
    student, teacher = ((300 * feature((2, 4, 4, 4), seed)).half() for seed in (1, 2))
    expected = reference(student.double().numpy(), teacher.double().numpy(), 2, "reference")
    assert at(signals(student), signals(teacher))["at_stage1"].item() == pytest.approx(expected, rel=1e-5)


def test_models_without_common_maps_are_refused_with_what_they_have() -> None:
    maps = signals(feature((2, 4, 4, 4), 1))
    tokens = Signals(torch.zeros(2, 2), {"block1": feature((2, 17, 8), 2)})
    for student, teacher in ((maps, tokens), (tokens, maps), (tokens, tokens)):
        with pytest.raises(KdError, match=r"no common map taps.*block1.*'kd'"):
            at(student, teacher)


def test_a_stage_with_one_position_is_left_out() -> None:
    student = signals(feature((2, 4, 4, 4), 1), feature((2, 4, 1, 1), 2))
    assert list(at(student, student)) == ["at_stage1"]
    with pytest.raises(KdError, match="no common map taps"):
        at(signals(feature((2, 4, 1, 1), 2)), student)

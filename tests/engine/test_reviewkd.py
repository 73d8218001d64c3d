"""Knowledge review: fusion and hierarchical loss against a float64 reference; its levels, its warm-up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_engine.errors import KdError
from kd_engine.methods import create
from kd_engine.methods.reviewkd import hierarchical
from kd_engine.schedules import Clock
from kd_engine.signals import Shapes, Signals
from tests.engine import reference as ref

sides = st.sampled_from([(2, 2), (4, 4), (6, 6), (8, 8), (4, 8), (1, 1)])
LEVELS = ("stage1", "stage2", "embedding")
State = dict[str, np.ndarray]


def both(
    batch: int, channels: tuple[int, int], sizes: list[tuple[tuple[int, int], tuple[int, int]]], seed: int
) -> tuple[Signals, Signals]:
    """A student with stages, a teacher with maps before the activation too; both with an embedding."""
    sides = []
    for role, width in enumerate(channels):
        maps = {
            f"stage{k}": ref.feature((batch, width + k, *pair[role]), seed + 10 * role + k)
            for k, pair in enumerate(sizes, 1)
        }
        before = {name.replace("stage", "preact"): tap - 0.5 for name, tap in maps.items()}
        embedding = {"embedding": ref.feature((batch, 2 * width), seed + 10 * role)}
        sides.append(ref.signals({**maps, **(before if role else {}), **embedding}))
    return sides[0], sides[1]


def usual(batch: int = 4) -> tuple[Signals, Signals]:
    return both(batch, (3, 5), [((8, 8), (8, 8)), ((4, 4), (4, 4))], 1)


def hcl(s: np.ndarray, t: np.ndarray) -> float:
    total, weight, whole = ((s - t) ** 2).mean(), 1.0, 1.0
    for side in (4, 2, 1):
        if side >= min(s.shape[2:]):
            continue
        weight /= 2
        whole += weight
        total += weight * ((ref.pool(s, side, side) - ref.pool(t, side, side)) ** 2).mean()
    return float(total / whole)


def norm(f: np.ndarray, state: State, at: str) -> np.ndarray:
    return ref.batch_norm(f, state[f"{at}.weight"], state[f"{at}.bias"])


def levels(student: Signals, teacher: Signals, state: State) -> dict[str, float]:
    losses: dict[str, float] = {}
    fused = None
    for name in reversed(LEVELS):
        goal = ref.numpy(teacher.taps[name.replace("stage", "preact")])
        goal = goal[:, :, None, None] if goal.ndim == 2 else goal
        f = ref.numpy(student.taps[name])
        f = f[:, :, None, None] if f.ndim == 2 else f
        at = f"blocks.{name}"
        x = norm(ref.conv(f, state[f"{at}.enter.0.weight"]), state, f"{at}.enter.1")
        if fused is not None:
            y = ref.nearest(fused, *f.shape[2:])
            scores = ref.conv(
                np.concatenate([x, y], axis=1), state[f"{at}.attention.weight"], state[f"{at}.attention.bias"]
            )
            share = 1 / (1 + np.exp(-scores))
            x = x * share[:, :1] + y * share[:, 1:]
        fused = ref.nearest(x, *goal.shape[2:])
        answer = norm(ref.conv(fused, state[f"{at}.leave.0.weight"]), state, f"{at}.leave.1")
        losses[f"reviewkd_{name}"] = hcl(answer, goal)
    return losses


@settings(max_examples=20, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(2, 5),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    sizes=st.lists(st.tuples(sides, sides), min_size=2, max_size=2),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int,
    channels: tuple[int, int],
    sizes: list[tuple[tuple[int, int], tuple[int, int]]],
    seed: int,
) -> None:
    student, teacher = both(batch, channels, sizes, seed)
    method = ref.prepared(create("reviewkd"), student, teacher, seed)
    terms = {name: term.item() for name, term in ref.terms(method, student, teacher).items()}
    assert terms == pytest.approx(levels(student, teacher, ref.arrays(method)), rel=1e-6)
    assert list(terms) == [f"reviewkd_{name}" for name in LEVELS]


def test_the_hierarchical_loss_is_zero_at_equality_and_grows_with_coarse_differences() -> None:
    t = ref.feature((2, 3, 8, 8), 1)
    assert hierarchical(t, t.clone()) == 0
    fine = t + 0.1 * (torch.arange(8) % 2 * 2 - 1)  # gone in every average pool
    coarse = t + 0.1
    assert hierarchical(coarse, t).item() == pytest.approx(0.01)
    assert hierarchical(fine, t).item() == pytest.approx(0.01 / (1 + 1 / 2 + 1 / 4 + 1 / 8))


def test_a_shallow_stage_of_the_teacher_teaches_the_students_deeper_ones() -> None:
    student, teacher = usual()
    taps = {name: tap.requires_grad_() for name, tap in student.taps.items()}
    method = ref.prepared(create("reviewkd"), student, teacher)
    ref.terms(method, student, teacher)["reviewkd_stage1"].backward()
    assert all(tap.grad is not None and tap.grad.any() for tap in taps.values())
    for tap in taps.values():
        tap.grad = None
    ref.terms(method, student, teacher)["reviewkd_stage2"].backward()
    assert taps["stage1"].grad is None
    assert taps["embedding"].grad is not None


def test_levels_and_the_teachers_maps_are_a_choice() -> None:
    student, teacher = usual()
    shapes = student.shapes(), teacher.shapes()
    assert create("reviewkd").student_taps(*shapes) == LEVELS
    assert create("reviewkd").teacher_taps(*shapes) == ("preact1", "preact2", "embedding")
    bare = create("reviewkd", embedding=False, teacher_maps="after")
    assert bare.student_taps(*shapes) == bare.teacher_taps(*shapes) == ("stage1", "stage2")
    terms = ref.terms(ref.prepared(bare, student, teacher), student, teacher)
    assert list(terms) == ["reviewkd_stage1", "reviewkd_stage2"]


def test_the_weight_warms_up_over_20_of_240_epochs() -> None:
    method = create("reviewkd")
    strengths = []
    for epoch in (0, 10, 20, 200):
        method.clock = Clock(epoch, epoch / 240)
        strengths.append(method.strength(None))
    assert strengths == pytest.approx([0, 0.5, 1, 1])


def test_a_batch_of_one_image_gives_a_finite_loss_and_moves_no_statistic_of_one_value() -> None:
    student, teacher = usual(batch=1)
    method = ref.prepared(create("reviewkd"), student, teacher)
    before = ref.arrays(method.get_submodule("blocks.embedding"))
    terms = ref.terms(method, student, teacher)
    assert all(term.isfinite() for term in terms.values())
    after = ref.arrays(method.get_submodule("blocks.embedding"))
    assert all(np.array_equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"block1": (17, 8)}, "no common map taps"),
        (
            {"stage1": (5, 8, 8), "stage2": (5, 4, 4)},
            "teacher has no preact1, preact2.*teacher_maps to 'after'",
        ),
    ],
)
def test_what_cannot_work_is_refused(teacher: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(KdError, match=message):
        create("reviewkd").prepare(usual()[0].shapes(), Shapes(2, teacher))

"""Semantic calibration: attention and loss against a float64 reference; groups, order, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_engine.errors import KdError
from kd_engine.methods import create
from kd_engine.methods.semckd import SemCkd, similarities
from kd_engine.signals import Shapes, Signals
from tests.engine import reference as ref

sides = st.sampled_from([(2, 2), (4, 4), (4, 2), (3, 3)])
State = dict[str, np.ndarray]


def stages(batch: int, channels: int, sizes: list[tuple[int, int]], seed: int) -> Signals:
    return ref.signals(
        {f"stage{k}": ref.feature((batch, channels + k, *size), seed + k) for k, size in enumerate(sizes, 1)}
    )


def embedded(feature: np.ndarray, state: State, net: str, group: int) -> np.ndarray:
    """A net's answer to each row of similarities, of length 1."""
    flat = feature.reshape(len(feature), -1)
    rows = np.zeros((len(flat), group))
    for n in range(len(flat)):
        first = n - n % group
        others = flat[first : first + group]
        rows[n, : len(others)] = others @ flat[n]
    hidden = np.maximum(rows @ state[f"{net}.0.weight"].T + state[f"{net}.0.bias"], 0)
    answer = hidden @ state[f"{net}.2.weight"].T + state[f"{net}.2.bias"]
    return answer / np.sqrt((answer**2).sum(1, keepdims=True))


def projected(f: np.ndarray, state: State, at: str) -> np.ndarray:
    f = ref.conv(f, state[f"{at}.0.weight"])
    f = np.maximum(ref.batch_norm(f, state[f"{at}.1.weight"], state[f"{at}.1.bias"]), 0)
    f = ref.conv(f, state[f"{at}.3.weight"])
    f = np.maximum(ref.batch_norm(f, state[f"{at}.4.weight"], state[f"{at}.4.bias"]), 0)
    return ref.conv(f, state[f"{at}.6.weight"])


def expected(
    student: Signals, teacher: Signals, state: State, group: int, softness: float
) -> dict[str, float]:
    ours = {name: ref.numpy(tap) for name, tap in student.taps.items()}
    theirs = {name: ref.numpy(tap) for name, tap in teacher.taps.items()}
    losses = {}
    for i, f in ours.items():
        query = embedded(f, state, f"queries.{i}", group)
        scores, gaps = [], []
        for j, g in theirs.items():
            scores.append((query * embedded(g, state, f"keys.{j}", group)).sum(1) / softness)
            small, goal = ref.to_smaller(f, g)
            gaps.append(((projected(small, state, f"regressors.{i}_{j}") - goal) ** 2).mean((1, 2, 3)))
        weights = np.exp(scores) / np.exp(scores).sum(0)
        losses[f"semckd_{i}"] = float((weights * gaps).sum(0).mean() / len(ours))
    return losses


@settings(max_examples=20, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(1, 9),
    channels=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    sizes=st.tuples(st.lists(sides, min_size=1, max_size=2), st.lists(sides, min_size=1, max_size=3)),
    group=st.sampled_from([4, 6, 8]),
    softness=st.sampled_from([1.0, 0.3]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int,
    channels: tuple[int, int],
    sizes: tuple[list[tuple[int, int]], list[tuple[int, int]]],
    group: int,
    softness: float,
    seed: int,
) -> None:
    student = stages(batch, channels[0], sizes[0], seed)
    teacher = stages(batch, channels[1], sizes[1], seed + 10)
    method = ref.prepared(create("semckd", group=group, softness=softness), student, teacher, seed)
    wanted = expected(student, teacher, ref.arrays(method), group, softness)
    terms = {name: term.item() for name, term in ref.terms(method, student, teacher).items()}
    assert terms == pytest.approx(wanted, rel=1e-5)


def usual(batch: int = 8, **knobs: object) -> tuple[SemCkd, Signals, Signals]:
    student = stages(batch, 2, [(4, 4), (2, 2)], 1)
    teacher = stages(batch, 3, [(4, 4), (4, 4), (2, 2)], 11)
    method = ref.prepared(create("semckd", **knobs), student, teacher)
    assert isinstance(method, SemCkd)
    return method, student, teacher


def test_attention_sums_to_one_for_each_image_and_stage_and_spreads_when_soft() -> None:
    method, student, teacher = usual(group=8)
    attention = method.attention(student, teacher)
    assert attention.shape == (8, 2, 3)
    torch.testing.assert_close(attention.sum(-1), torch.ones(8, 2).double())
    even = usual(group=8, softness=100.0)[0].attention(student, teacher)
    torch.testing.assert_close(even, torch.full((8, 2, 3), 1 / 3).double(), atol=0.02, rtol=0)


def test_an_image_is_compared_with_its_group_alone_and_missing_ones_count_as_zero() -> None:
    f = ref.feature((6, 3, 2, 2), 1)
    rows = similarities(f, 4)
    flat = f.flatten(1)
    torch.testing.assert_close(rows[:4], flat[:4] @ flat[:4].T)
    torch.testing.assert_close(rows[4:, :2], flat[4:] @ flat[4:].T)
    assert not rows[4:, 2:].any()


def test_the_order_of_the_batch_matters_as_in_the_paper_and_it_says_so() -> None:
    method, student, teacher = usual(group=8)
    order = torch.arange(8).flip(0)
    turned = [ref.signals({name: tap[order] for name, tap in s.taps.items()}) for s in (student, teacher)]
    one, other = (sum(ref.terms(method, *pair).values()) for pair in ((student, teacher), turned))
    assert SemCkd.depends_on_order
    assert not torch.allclose(torch.as_tensor(one), torch.as_tensor(other), rtol=1e-6)


def test_the_student_also_learns_through_the_attention() -> None:
    method, student, teacher = usual(group=8)
    taps = {name: tap.requires_grad_() for name, tap in student.taps.items()}
    method.attention(student, teacher)[:, 0, 0].sum().backward()
    assert taps["stage1"].grad is not None
    assert taps["stage1"].grad.any()
    assert taps["stage2"].grad is None or not taps["stage2"].grad.any()


def test_in_half_precision_the_attention_is_that_of_full_precision_and_not_infinite() -> None:
    method, student, teacher = usual(group=8)
    method.float()
    halves = [
        ref.signals({name: (300 * tap).half() for name, tap in s.taps.items()}) for s in (student, teacher)
    ]
    plain = method.attention(*halves)
    with torch.autocast("cpu", dtype=torch.float16):
        torch.testing.assert_close(method.attention(*halves), plain)
        assert all(term.isfinite() for term in ref.terms(method, halves[0], halves[1]).values())


def test_one_image_gives_a_finite_loss() -> None:
    method, student, teacher = usual(batch=1)
    assert all(term.isfinite() for term in ref.terms(method, student, teacher).values())


def test_models_without_maps_are_refused_with_what_they_have() -> None:
    maps, tokens = Shapes(2, {"stage1": (3, 4, 4)}), Shapes(2, {"block1": (17, 8)})
    for shapes in ((maps, tokens), (tokens, maps)):
        with pytest.raises(KdError, match=r"no map taps.*stage1.*block1|no map taps.*block1.*stage1"):
            create("semckd").prepare(*shapes)

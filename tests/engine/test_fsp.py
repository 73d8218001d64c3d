"""Flow between layers: against a float64 reference, which neighbours meet, equal channels; its own stage."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import create
from kd_engine.signals import Signals
from tests.engine.reference import to_smaller
from tests.engine.toy_features import feature, shapes, signals, single, terms

side = st.sampled_from([(2, 2), (4, 4), (8, 4), (5, 3)])


def reference(student: list[Tensor], teacher: list[Tensor], paper: bool) -> list[float]:
    losses = []
    for ours, theirs in zip(pairwise(student), pairwise(teacher), strict=True):
        flows = []
        for pair in (ours, theirs):
            a, b = to_smaller(*(f.numpy() for f in pair))
            flows.append(np.einsum("nahw,nbhw->nab", a, b) / (a.shape[2] * a.shape[3]))
        squares = (flows[0] - flows[1]) ** 2
        losses.append(float(squares.sum() / len(squares) if paper else squares.mean()))
    return losses


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    data=st.data(),
    paper=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int, channels: list[int], data: st.DataObject, paper: bool, seed: int
) -> None:
    student, teacher = (
        [feature(batch, c, *data.draw(side), seed=seed + 10 * who + k) for k, c in enumerate(channels)]
        for who in (0, 1)
    )
    knobs = {"reduction": "paper"} if paper else {}
    found = terms("fsp", signals(*student), signals(*teacher), **knobs)
    inexact = terms("fsp", single(signals(*student)), single(signals(*teacher)), **knobs)
    assert list(found) == [f"fsp_stage{k}" for k in range(2, len(channels) + 1)]
    for term, expected in zip(found, reference(student, teacher, paper), strict=True):
        assert found[term].item() == pytest.approx(expected, rel=1e-10)
        assert inexact[term].item() == pytest.approx(expected, rel=1e-5)


def network(seed: int, size: int = 8) -> Signals:
    maps = {"stem": (2, size), "stage1": (2, size), "stage2": (4, size // 2), "stage3": (6, size // 4)}
    taps = {name: feature(3, c, s, s, seed=seed + c) for name, (c, s) in maps.items()}
    return signals(**taps, embedding=feature(3, 6, seed=seed))


def test_the_stem_counts_and_the_embedding_does_not() -> None:
    student, teacher = network(1), network(2)
    found = terms("fsp", student, teacher)
    expected = reference(*([s.taps[t] for t in list(s.taps)[:4]] for s in (student, teacher)), paper=False)
    assert list(found) == ["fsp_stage1", "fsp_stage2", "fsp_stage3"]
    assert [value.item() for value in found.values()] == pytest.approx(expected)


def test_it_is_zero_at_equality_and_where_all_places_are_moved_alike() -> None:
    student = network(1)
    moved = Signals(student.logits, {n: t.flip(2, 3) if t.ndim == 4 else t for n, t in student.taps.items()})
    assert all(value == 0 for value in terms("fsp", student, student).values())
    for value in terms("fsp", moved, student).values():
        assert value.item() == pytest.approx(0, abs=1e-25)


def test_a_teacher_with_larger_maps_and_equal_channels_will_do() -> None:
    assert all(value > 0 for value in terms("fsp", network(1), network(2, size=16)).values())


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (
            {"stem": (16, 8, 8), "stage1": (16, 8, 8), "stage2": (32, 4, 4)},
            {"stem": (16, 8, 8), "stage1": (32, 8, 8), "stage2": (64, 4, 4)},
            r"equal channel counts.*: stage1 has 16 against stage1's 32, stage2 has 32 against stage2's 64; "
            r"take a teacher of the same width",
        ),
        ({"stage1": (3, 8, 8)}, {"stage1": (3, 8, 8)}, "no two or more common map taps"),
        ({"stage1": (3, 8, 8)}, {"block1": (17, 8)}, "no two or more common map taps.*block1.*'kd'"),
    ],
)
def test_what_has_no_common_flow_is_refused_with_the_reason(
    student: dict[str, tuple[int, ...]], teacher: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(KdError, match=message):
        create("fsp").prepare(shapes(**student), shapes(**teacher))


def test_a_dead_network_gives_finite_numbers_and_gradients() -> None:
    dead = Signals(
        torch.zeros(3, 2), {n: torch.zeros_like(t).requires_grad_() for n, t in network(1).taps.items()}
    )
    total = torch.stack(list(terms("fsp", dead, network(2)).values())).sum()
    total.backward()
    assert total.isfinite()
    assert all(t.grad is None or bool(t.grad.isfinite().all()) for t in dead.taps.values())


def test_half_precision_runs_do_not_round_its_products() -> None:
    student, teacher = single(network(1)), single(network(2))
    plain = terms("fsp", student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert terms("fsp", student, teacher) == plain

"""Neuron selectivity: against a float64 reference channel by channel, its invariances, dead channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import create
from tests.engine.reference import to_smaller
from tests.engine.toy_features import (
    feature,
    gradient,
    shapes,
    signals,
    single,
    terms,
    unit,
)

KERNELS = ["polynomial", "linear", "gaussian"]
kernels = pytest.mark.parametrize("kernel", KERNELS)
sides = st.sampled_from([(2, 2), (2, 4), (4, 4), (5, 3)])


def nst(student: Tensor, teacher: Tensor, **knobs: object) -> Tensor:
    return terms("nst", signals(student), signals(teacher), **knobs)["nst_stage1"]


def reference(student: Tensor, teacher: Tensor, kernel: str) -> float:
    """Mean over samples of E k(t, t') + E k(s, s') − 2 E k(t, s), all pairs of channels in plain sums."""
    pooled = to_smaller(student.numpy(), teacher.numpy())
    ours, theirs = (unit(f.reshape(*f.shape[:2], -1)) for f in pooled)
    width = np.mean([np.sum((a - b) ** 2) for s, t in zip(ours, theirs, strict=True) for a in s for b in t])
    width = max(width, 1e-4)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        if kernel == "gaussian":
            return float(np.exp(-np.sum((a - b) ** 2) / (2 * width)))
        return float(a @ b) ** (2 if kernel == "polynomial" else 1)

    def mean(p: np.ndarray, q: np.ndarray) -> float:
        return float(np.mean([k(a, b) for a in p for b in q]))

    gaps = [mean(t, t) + mean(s, s) - 2 * mean(s, t) for s, t in zip(ours, theirs, strict=True)]
    return float(np.mean(gaps))


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    sizes=st.tuples(sides, sides),
    kernel=st.sampled_from(KERNELS),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int,
    channels: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    kernel: str,
    seed: int,
) -> None:
    student, teacher = (
        feature(batch, c, *size, seed=seed + c) for c, size in zip(channels, sizes, strict=True)
    )
    expected = reference(student, teacher, kernel)
    assert nst(student, teacher, kernel=kernel).item() == pytest.approx(expected, rel=1e-9, abs=1e-14)
    found = nst(student.float(), teacher.float(), kernel=kernel).item()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("channels", [(20, 3), (3, 20), (15, 17), (2, 3)])
def test_many_and_few_channels_take_different_products_to_the_same_number(channels: tuple[int, int]) -> None:
    student, teacher = (feature(2, c, 4, 4, seed=c) for c in channels)
    assert nst(student, teacher).item() == pytest.approx(reference(student, teacher, "polynomial"), rel=1e-9)


@kernels
def test_the_order_and_the_scale_of_channels_do_not_matter(kernel: str) -> None:
    f = feature(3, 5, 4, 4, seed=1)
    scaled = f.flip(1) * torch.linspace(0.1, 10, 5)[:, None, None]
    assert nst(f, f, kernel=kernel).item() == pytest.approx(0, abs=1e-15)
    assert nst(scaled, f, kernel=kernel).item() == pytest.approx(0, abs=1e-15)
    assert nst(f.flip(3), f, kernel=kernel).item() > 1e-3


def test_one_term_a_stage_without_stem_embedding_and_single_places() -> None:
    maps = [feature(2, 3, size, size, seed=size) for size in (8, 4, 1)]
    others = {"stem": feature(2, 3, 8, 8, seed=9), "embedding": feature(2, 3, seed=9)}
    teacher = signals(*(feature(2, 4, size, size, seed=9) for size in (8, 4, 2)), **others)
    found = terms("nst", signals(*maps, **others), teacher)
    assert list(found) == ["nst_stage1", "nst_stage2"]
    assert terms("nst", signals(*maps), teacher, stages="last") == {"nst_stage2": found["nst_stage2"]}


@kernels
@pytest.mark.parametrize("channels", [3, 20])
def test_dead_channels_and_maps_give_finite_numbers_and_small_gradients(kernel: str, channels: int) -> None:
    f = feature(2, channels, 3, 3, seed=1)
    dead = f.clone()
    dead[0, 1] = 0
    gone = torch.zeros_like(f)
    for student, teacher in ((dead, f), (f, dead), (gone, f), (f, gone), (gone, gone), (f, f)):
        leaf = student.clone().requires_grad_()
        loss = nst(leaf, teacher, kernel=kernel)
        assert loss.isfinite()
        assert gradient(loss, leaf).abs().max() < 100


def test_its_caution_names_the_published_numbers() -> None:
    assert "58.2 % against 64.6 %" in type(create("nst")).caution


def test_models_without_common_maps_are_refused_with_what_they_have() -> None:
    with pytest.raises(KdError, match=r"no common map taps.*the teacher block1; use .*'kd'"):
        create("nst").prepare(shapes(stage1=(3, 4, 4)), shapes(block1=(17, 8)))


@kernels
def test_half_precision_runs_do_not_round_its_products(kernel: str) -> None:
    student, teacher = (single(signals(feature(3, 4, 6, 6, seed=seed))) for seed in (1, 2))
    plain = terms("nst", student, teacher, kernel=kernel)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert terms("nst", student, teacher, kernel=kernel) == plain

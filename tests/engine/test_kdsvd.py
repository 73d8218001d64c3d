"""Singular vectors: against NumPy's decomposition; their gradient, signs, equal values and empty maps."""

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
from kd_engine.methods.kdsvd import directions, right_vectors
from tests.engine.toy_features import feature, gradient, shapes, signals, single, terms

side = st.sampled_from([(3, 3), (4, 4), (2, 4), (6, 5)])


def reference(student: list[Tensor], teacher: list[Tensor], k: int) -> list[float]:
    """Sample by sample, from NumPy's SVD of the maps as (HW, C)."""
    n = len(student[0])
    totals = np.zeros(len(student) - 1)
    for i in range(n):
        described = []
        for ours, theirs in zip(student, teacher, strict=True):
            (_, _, vs), (_, st_, vt) = (
                np.linalg.svd(f[i].numpy().reshape(f.shape[1], -1).T, full_matrices=False)
                for f in (ours, theirs)
            )
            vs, vt, values = vs[: k + 3], vt[:k], st_[:k] / np.sqrt((st_[:k] ** 2).sum())
            vt = vt * np.where(vt.sum(1, keepdims=True) < 0, -1, 1)
            cosine = vs @ vt.T
            best = np.abs(cosine).argmax(0)
            matched = vs[best] * np.sign(cosine[best, range(len(vt))])[:, None]
            described.append((matched * values[:, None], vt * values[:, None]))
        for j, (last, now) in enumerate(pairwise(described)):
            ours, theirs = (
                np.exp(-((b[:, :, None] - a[:, None, :]) ** 2) / 8) for a, b in zip(last, now, strict=True)
            )
            totals[j] += ((ours - theirs) ** 2).sum()
    return list(totals / n)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.lists(st.integers(3, 7), min_size=2, max_size=3),
    k=st.integers(1, 3),
    data=st.data(),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int, channels: list[int], k: int, data: st.DataObject, seed: int
) -> None:
    student, teacher = (
        [feature(batch, c, *data.draw(side), seed=seed + 10 * who + j) for j, c in enumerate(channels)]
        for who in (0, 1)
    )
    found = terms("kdsvd", signals(*student), signals(*teacher), k=k)
    inexact = terms("kdsvd", single(signals(*student)), single(signals(*teacher)), k=k)
    assert list(found) == [f"kdsvd_stage{j}" for j in range(2, len(channels) + 1)]
    for term, expected in zip(found, reference(student, teacher, k), strict=True):
        assert found[term].item() == pytest.approx(expected, rel=1e-8)
        assert inexact[term].item() == pytest.approx(
            expected, rel=1e-3
        )  # vectors of close values: 1e-7 / gap


def spectrum(values: list[float], seed: int = 1, size: int = 4) -> Tensor:
    """A map (1, C, size, size) whose singular values are `values`."""
    u = torch.linalg.qr(feature(size * size, len(values), seed=seed))[0]
    v = torch.linalg.qr(feature(len(values), len(values), seed=seed + 1))[0]
    return (u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v.T).T.reshape(1, -1, size, size)


@pytest.mark.parametrize("shape", [(3, 4, 4), (9, 2, 3)])
def test_the_gradient_is_autograds_where_singular_values_are_apart(shape: tuple[int, ...]) -> None:
    leaf = feature(2, *shape, seed=3).requires_grad_()
    weights = feature(2, shape[0], 2, seed=4)
    plain = torch.linalg.svd(leaf.flatten(2).mT, full_matrices=False)[2].mT[:, :, :2]
    expected = gradient((plain.square() * weights).sum(), leaf)  # squares: signs are free
    vectors, _ = right_vectors(leaf, 2)
    found = gradient((vectors.square() * weights).sum(), leaf)
    assert (found - expected).norm() < 2e-3 * expected.norm()


def test_equal_singular_values_give_a_bounded_gradient() -> None:
    """Autograd's own is 1e10 and more, or not a number, for such a map."""
    for values in ([1.0, 1.0, 1.0], [2.0, 1.0, 1.0], [1.0, 1.0 + 1e-9, 0.5], [1.0, 0.0, 0.0]):
        student = [spectrum(values, seed).requires_grad_() for seed in (1, 5)]
        teacher = [spectrum([3.0, 2.0, 1.0], seed) for seed in (11, 15)]
        loss = terms("kdsvd", signals(*student), signals(*teacher), k=2)["kdsvd_stage2"]
        assert loss.isfinite()
        for leaf in student:
            assert gradient_of(loss, leaf).abs().max() < 1000


def gradient_of(loss: Tensor, leaf: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    assert grad.isfinite().all()
    return grad


def test_dead_maps_and_directions_without_energy_are_zero_vectors() -> None:
    alive = [feature(2, 4, 4, 4, seed=seed) for seed in (1, 2)]
    gone = [torch.zeros(2, 4, 4, 4, dtype=torch.float64, requires_grad=True) for _ in alive]
    loss = terms("kdsvd", signals(*gone), signals(*alive))["kdsvd_stage2"]
    assert loss.isfinite()
    assert gradient(loss, gone[0]).abs().max() == 0
    assert terms("kdsvd", signals(*alive), signals(*gone))["kdsvd_stage2"] == 0
    vectors, energy = right_vectors(spectrum([1.0, 0.5, 0.0]), 3)
    assert energy[0].tolist() == pytest.approx([0.8, 0.2, 0.0])
    assert vectors[0, :, 2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_it_is_zero_at_equality_and_for_multiples_of_a_map_whatever_their_sign(sign: int) -> None:
    maps = [feature(3, 4, 4, 4, seed=1), feature(3, 6, 2, 4, seed=2)]
    student = [sign * 7 * f for f in maps]
    assert terms("kdsvd", signals(*maps), signals(*maps), k=2)["kdsvd_stage2"] == 0
    found = terms("kdsvd", signals(*student), signals(*maps), k=2)["kdsvd_stage2"]
    assert found.item() == pytest.approx(0, abs=1e-20)


def test_vectors_are_matched_by_direction_not_by_rank_and_get_the_teachers_sign_and_value() -> None:
    teacher = spectrum([3.0, 1.0, 0.5])
    swapped = spectrum([0.5, 1.0, 3.0])  # the same directions, the strongest now the weakest
    ours, theirs = directions(swapped, teacher, 1)
    torch.testing.assert_close(ours, theirs)
    assert theirs.sum() > 0
    assert torch.linalg.vector_norm(theirs).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("student", "teacher", "k", "message"),
    [
        (
            {"stage1": (16, 8, 8), "stage2": (32, 4, 4)},
            {"stage1": (16, 8, 8), "stage2": (64, 4, 4)},
            1,
            "equal channel counts.*: stage2 has 32 against stage2's 64; take a teacher of the same width",
        ),
        ({"stage1": (3, 8, 8)}, {"stage1": (3, 8, 8)}, 1, "no two or more common map taps"),
        ({"stage1": (3, 8, 8)}, {"block1": (17, 8)}, 1, "no two or more common map taps.*block1"),
        (
            {"stage1": (8, 8, 8), "stage2": (8, 2, 2)},
            {"stage1": (8, 8, 8), "stage2": (8, 4, 4)},
            5,
            r"k = 5: the student's stage2 \(8, 2, 2\) has only 4 singular vectors",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(
    student: dict[str, tuple[int, ...]], teacher: dict[str, tuple[int, ...]], k: int, message: str
) -> None:
    with pytest.raises(KdError, match=message):
        create("kdsvd", k=k).prepare(shapes(**student), shapes(**teacher))


def test_half_precision_runs_do_not_round_its_products() -> None:
    student, teacher = (
        single(signals(feature(3, 4, 6, 6, seed=seed), feature(3, 5, 3, 3, seed=seed + 1))) for seed in (1, 5)
    )
    plain = terms("kdsvd", student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert terms("kdsvd", student, teacher) == plain

"""Relational distillation: against a float64 reference with vectors, invariances, samples that coincide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import Terms, create
from kd_engine.methods.rkd import angles, distances
from tests.engine.toy_features import feature, gradient, shapes, signals, single, terms


def rkd(student: Tensor, teacher: Tensor, **knobs: object) -> Terms:
    return terms("rkd", signals(embedding=student), signals(embedding=teacher), **knobs)


def huber(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)


def relations(e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances over their mean, and cosines by unit vectors, as RepDistiller has them."""
    apart = e[None] - e[:, None]  # [i, j]: from i to j
    lengths = np.sqrt((apart**2).sum(2))
    units = apart / np.where(lengths > 0, lengths, 1)[..., None]
    return lengths / lengths[lengths > 0].mean(), np.einsum("ijd,ikd->ijk", units, units)


def reference(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    (d, a), (dt, at) = relations(student.numpy()), relations(teacher.numpy())
    return 25 * huber(d - dt).mean(), 50 * huber(a - at).mean()


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(2, 9),
    widths=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    spread=st.sampled_from([1.0, 1e-3, 1e3]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(batch: int, widths: tuple[int, int], spread: float, seed: int) -> None:
    student, teacher = (feature(batch, width, seed=seed + k) for k, width in enumerate(widths))
    student = student * spread
    found = rkd(student, teacher)
    assert list(found) == ["rkd_distance", "rkd_angle"]
    single_precision = rkd(student.float(), teacher.float())
    for term, expected in zip(found, reference(student, teacher), strict=True):
        assert found[term].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert single_precision[term].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_moving_rotating_and_scaling_an_embedding_changes_nothing() -> None:
    e, other = feature(6, 4, seed=1), feature(6, 4, seed=2)
    rotation = torch.linalg.qr(feature(4, 4, seed=3))[0]
    moved = 7 * (e @ rotation) + feature(4, seed=4)
    assert rkd(e, e) == {"rkd_distance": 0, "rkd_angle": 0}
    for term, value in rkd(moved, e).items():
        assert value.item() == pytest.approx(0, abs=1e-20), term
    plain = rkd(e, other)
    for term, value in rkd(moved, other).items():
        torch.testing.assert_close(value, plain[term])
        assert value > 0.1


def test_its_two_parts_have_weights_of_their_own() -> None:
    student, teacher = feature(5, 4, seed=1), feature(5, 4, seed=2)
    plain, other = rkd(student, teacher), rkd(student, teacher, distance=50, angle=0)
    assert other["rkd_distance"].item() == pytest.approx(2 * plain["rkd_distance"].item())
    assert other["rkd_angle"].item() == 0


def test_angles_are_those_of_a_triangle_that_is_known() -> None:
    between = distances(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]))
    cosines = angles(between)
    assert between[1, 2] / between[0, 1] == pytest.approx(5 / 3)
    assert cosines[0, 1, 2].item() == pytest.approx(0, abs=1e-6)
    assert cosines[1, 0, 2].item() == pytest.approx(3 / 5)
    assert cosines[2, 1, 0].item() == pytest.approx(4 / 5)
    assert cosines[0, 1, 1].item() == pytest.approx(1)
    assert cosines[0, 0, 1].item() == 0


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_samples_that_coincide_give_finite_numbers_and_gradients(batch: int) -> None:
    e = feature(batch, 4, seed=1)
    same = e[:1].expand(batch, -1).clone()
    twins = e.clone()
    twins[0] = twins[-1]
    for student, teacher in ((same, e), (e, same), (same, same), (twins, e), (e, twins), (e, e)):
        leaf = student.clone().requires_grad_()
        loss = torch.stack(list(rkd(leaf, teacher).values())).sum()
        assert loss.isfinite()
        assert gradient(loss, leaf).isfinite().all()
        if batch == 1:
            assert loss.item() == 0


def test_its_gradient_is_the_numerical_one() -> None:
    teacher = distances(feature(4, 3, seed=2))
    leaf = feature(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: (distances(e) - teacher).square().sum(), (leaf,))
    assert torch.autograd.gradcheck(lambda e: (angles(distances(e)) ** 3).sum(), (leaf,))


def test_small_distances_between_long_vectors_are_not_lost_in_single_precision() -> None:
    near, teacher = feature(5, 4, seed=1, scale=0.01), feature(5, 4, seed=2)
    far = rkd((near + 100).float(), teacher.float())
    for term, value in rkd(near, teacher).items():
        assert far[term].item() == pytest.approx(value.item(), rel=0.02)


def test_half_precision_runs_do_not_round_it() -> None:
    student, teacher = (single(signals(embedding=feature(8, 6, seed=seed))) for seed in (1, 2))
    plain = terms("rkd", student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert terms("rkd", student, teacher) == plain


def test_models_without_embedding_are_refused() -> None:
    with pytest.raises(KdError, match=r"no pooled embeddings in both models.*the teacher stage1"):
        create("rkd").prepare(shapes(embedding=(8,)), shapes(stage1=(3, 4, 4)))

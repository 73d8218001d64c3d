"""Multi-level logits: against loops over temperatures, classes and samples; what standardising touches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import Terms, create
from kd_engine.signals import Shapes, Signals
from tests.engine.toy_logits import QUICK, draw, kl, softmax


def mlkd(student: Tensor, teacher: Tensor, **knobs: object) -> Terms:
    return create("mlkd", **knobs)(Signals(student), Signals(teacher), torch.zeros(1))


def reference(student: np.ndarray, teacher: np.ndarray, temperatures: range) -> list[float]:
    totals = np.zeros(3)
    samples, classes = student.shape
    for heat in temperatures:
        q, p = softmax(student / heat), softmax(teacher / heat)
        totals[0] += heat**2 * kl(p, q).mean()
        for a in range(classes):
            for b in range(classes):
                totals[1] += ((p[:, a] * p[:, b]).sum() - (q[:, a] * q[:, b]).sum()) ** 2 / classes
        for i in range(samples):
            for j in range(samples):
                totals[2] += (p[i] @ p[j] - q[i] @ q[j]) ** 2 / samples
    return list(totals)


@QUICK
@given(
    samples=st.integers(1, 5),
    classes=st.integers(2, 6),
    ends=st.tuples(st.integers(1, 4), st.integers(0, 4)),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(samples: int, classes: int, ends: tuple[int, int], seed: int) -> None:
    student, teacher = draw((samples, classes), seed), draw((samples, classes), seed + 1)
    coolest, hottest = ends[0], sum(ends)
    expected = reference(student.numpy(), teacher.numpy(), range(coolest, hottest + 1))
    terms = mlkd(student, teacher, coolest=coolest, hottest=hottest)
    assert list(terms) == ["mlkd_instance", "mlkd_class", "mlkd_batch"]
    assert [term.item() for term in terms.values()] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    single = mlkd(student.float(), teacher.float(), coolest=coolest, hottest=hottest)
    assert [term.item() for term in single.values()] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_its_temperatures_are_two_to_six_and_the_first_level_is_kd_at_each() -> None:
    student, teacher = draw((6, 5), 1), draw((6, 5), 2)
    each = [
        create("kd", temperature=float(heat))(Signals(student), Signals(teacher), torch.zeros(6))["kd"]
        for heat in (2, 3, 4, 5, 6)
    ]
    torch.testing.assert_close(mlkd(student, teacher)["mlkd_instance"], torch.stack(each).sum())
    four = mlkd(student, teacher, coolest=4, hottest=4)["mlkd_instance"]
    torch.testing.assert_close(four, each[2])


def test_it_is_zero_at_equality_and_unchanged_by_a_constant_added_to_a_row() -> None:
    student, teacher = draw((6, 5), 3), draw((6, 5), 4)
    for term in mlkd(teacher.clone(), teacher).values():
        assert term.item() == 0
    shifted = mlkd(student + draw((6, 1), 5), teacher)
    for name, term in mlkd(student, teacher).items():
        torch.testing.assert_close(shifted[name], term)


def test_relations_between_classes_do_not_see_which_sample_is_which_and_between_samples_not_which_class() -> (
    None
):
    teacher = draw((6, 5), 6)
    samples, classes = torch.randperm(6), torch.randperm(5)
    assert mlkd(teacher[samples], teacher)["mlkd_class"].item() == pytest.approx(0, abs=1e-12)
    assert mlkd(teacher[:, classes], teacher)["mlkd_batch"].item() == pytest.approx(0, abs=1e-12)


def test_standardising_touches_the_soft_targets_only() -> None:
    student, teacher = draw((6, 5), 7), draw((6, 5), 8)
    plain, standard = mlkd(student, teacher), mlkd(student, teacher, standardise=True)
    assert abs(plain["mlkd_instance"] - standard["mlkd_instance"]) > 0.01
    for name in ("mlkd_class", "mlkd_batch"):
        assert plain[name] == standard[name]


def test_half_precision_training_does_not_round_the_relations() -> None:
    student, teacher = draw((6, 5), 9).float(), draw((6, 5), 10).float()
    with torch.autocast("cpu", torch.bfloat16):
        terms = mlkd(student, teacher)
    for name, term in mlkd(student, teacher).items():
        torch.testing.assert_close(terms[name], term)


def test_temperatures_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(KdError, match="coolest = 5 to hottest = 3: exchange"):
        create("mlkd", coolest=5, hottest=3).prepare(Shapes(5), Shapes(5))

"""Class attention transfer: against a float64 reference; what class maps are; whose weights learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import create
from kd_engine.methods.cat_kd import class_maps
from kd_engine.signals import Classifier, Shapes, Signals


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model(batch: int, width: int, size: tuple[int, int], classes: int, seed: int) -> Signals:
    stage = noise((batch, width, *size), seed)
    last = Classifier(noise((classes, width), seed + 1), noise((classes,), seed + 2))
    logits = torch.nn.functional.linear(stage.mean((2, 3)), *last)
    return Signals(logits, {"stage1": stage, "embedding": stage.mean((2, 3))}, classifier=last)


def cat_kd(student: Signals, teacher: Signals, **knobs: object) -> Tensor:
    return create("cat-kd", **knobs)(student, teacher, torch.zeros(1))["cat-kd"]


def pool(f: np.ndarray, side: int) -> np.ndarray:
    """Means over the cells of a (side, side) grid; cells overlap where sizes do not divide."""
    out = np.zeros((*f.shape[:2], side, side))
    for i in range(side):
        for j in range(side):
            rows = slice(i * f.shape[2] // side, -(-(i + 1) * f.shape[2] // side))
            columns = slice(j * f.shape[3] // side, -(-(j + 1) * f.shape[3] // side))
            out[:, :, i, j] = f[:, :, rows, columns].mean((2, 3))
    return out


def reference(student: Signals, teacher: Signals, resolution: int, normalise: bool) -> float:
    maps = []
    for said in (student, teacher):
        assert said.classifier is not None
        weight, stage = said.classifier.weight.double().numpy(), said.taps["stage1"].double().numpy()
        cams = pool(np.einsum("cd,ndhw->nchw", weight, stage), resolution)
        if normalise:
            cams = cams / np.sqrt((cams**2).sum((2, 3), keepdims=True))
        maps.append(cams)
    return float(((maps[0] - maps[1]) ** 2).mean())


@settings(max_examples=30, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(1, 4),
    widths=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    sizes=st.tuples(*[st.sampled_from([(2, 2), (4, 4), (3, 5), (8, 8), (1, 2)])] * 2),
    classes=st.integers(2, 5),
    resolution=st.integers(1, 4),
    normalise=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int,
    widths: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    classes: int,
    resolution: int,
    normalise: bool,
    seed: int,
) -> None:
    student = model(batch, widths[0], sizes[0], classes, seed)
    teacher = model(batch, widths[1], sizes[1], classes, seed + 10)
    expected = reference(student, teacher, resolution, normalise)
    term = cat_kd(student, teacher, resolution=resolution, normalise=normalise)
    assert term.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_mean_of_a_class_map_is_the_logit_without_its_bias() -> None:
    said = model(3, 4, (6, 5), 3, 1)
    assert said.classifier is not None
    assert said.classifier.bias is not None
    means = class_maps(said.taps["stage1"], said.classifier, 1).squeeze(-1)
    torch.testing.assert_close(means, said.logits - said.classifier.bias)
    flat = cat_kd(said, model(3, 4, (6, 5), 3, 9), resolution=1, normalise=False)
    assert flat.item() > 0


def test_it_is_zero_for_equal_models_and_normalised_maps_do_not_mind_their_scale() -> None:
    student, teacher = model(3, 4, (4, 4), 3, 1), model(3, 6, (8, 8), 3, 2)
    assert cat_kd(student, student).item() == 0.0
    larger = Signals(
        student.logits, {n: 7 * t for n, t in student.taps.items()}, classifier=student.classifier
    )
    torch.testing.assert_close(cat_kd(larger, teacher), cat_kd(student, teacher))
    assert cat_kd(larger, teacher, normalise=False) > cat_kd(student, teacher, normalise=False)


def test_the_students_classifier_learns_and_the_teachers_does_not() -> None:
    student, teacher = model(3, 4, (4, 4), 3, 1), model(3, 6, (8, 8), 3, 2)
    for said in (student, teacher):
        assert said.classifier is not None
        said.classifier.weight.requires_grad_()
    cat_kd(student, teacher).backward()
    assert student.classifier is not None
    assert teacher.classifier is not None
    assert student.classifier.weight.grad is not None
    assert student.classifier.weight.grad.any()
    assert teacher.classifier.weight.grad is None


def test_a_dead_map_gives_a_finite_loss_and_gradient() -> None:
    student, teacher = model(2, 4, (4, 4), 3, 1), model(2, 6, (4, 4), 3, 2)
    dead = torch.zeros(2, 4, 4, 4, requires_grad=True)
    term = cat_kd(
        Signals(
            student.logits, {"stage1": dead, "embedding": dead.mean((2, 3))}, classifier=student.classifier
        ),
        teacher,
    )
    term.backward()
    assert term.item() == pytest.approx(1 / 4)  # one length of 1 over four places
    assert dead.grad is not None
    assert dead.grad.isfinite().all()


MAP = {"stage1": (4, 2, 2), "embedding": (4,)}


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (Shapes(2, {"embedding": (4,)}), Shapes(2, MAP, classifier=True), "no last map"),
        (Shapes(2, {"stage1": (4, 1, 1)}), Shapes(2, MAP, classifier=True), "two places or more"),
        (Shapes(2, MAP), Shapes(2, MAP, classifier=True), "student has no last linear layer"),
        (Shapes(2, MAP, classifier=True), Shapes(2, MAP), "teacher has no last linear layer"),
        (Shapes(2, MAP, classifier=True), Shapes(3, MAP, classifier=True), "2 classes, the teacher 3"),
        (
            Shapes(2, {**MAP, "embedding": (9,)}, classifier=True),
            Shapes(2, MAP, classifier=True),
            "student's classifier takes 9 features, its stage1 has 4",
        ),
    ],
)
def test_what_it_cannot_work_with_is_refused_with_the_reason(
    student: Shapes, teacher: Shapes, message: str
) -> None:
    with pytest.raises(KdError, match=message):
        create("cat-kd").prepare(student, teacher)

"""Softmax regression: against a float64 reference; the teacher's classifier is used and left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.methods import Terms, create
from kd_engine.methods.srrl import Srrl
from kd_engine.signals import Classifier, Shapes, Signals


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(
    batch: int, widths: tuple[int, int], sizes: tuple[int, int], classes: int, seed: int, bias: bool
) -> list[Signals]:
    """A student and a teacher, whose logits are those of its classifier."""
    both = []
    for k, (width, size) in enumerate(zip(widths, sizes, strict=True)):
        stage = noise((batch, width, size, size), seed + k).relu()
        embedding = stage.mean((2, 3))
        last = Classifier(
            noise((classes, width), seed + 7 + k), noise((classes,), seed + 9) if bias else None
        )
        logits = nn.functional.linear(embedding, *last)
        both.append(Signals(logits, {"stage1": stage, "embedding": embedding}, classifier=last))
    return both


def srrl(student: Signals, teacher: Signals, **knobs: object) -> tuple[Srrl, Terms]:
    torch.manual_seed(0)
    method = create("srrl", **knobs)
    assert isinstance(method, Srrl)
    method.prepare(student.shapes(), teacher.shapes())
    return method.double(), method(student, teacher, torch.zeros(len(student.logits)))


@settings(max_examples=20, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(2, 5),
    widths=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    sizes=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([2, 3])),
    classes=st.integers(2, 5),
    place=st.sampled_from(["map", "embedding"]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int,
    widths: tuple[int, int],
    sizes: tuple[int, int],
    classes: int,
    place: str,
    bias: bool,
    seed: int,
) -> None:
    student, teacher = pair(batch, widths, sizes, classes, seed, bias)
    method, terms = srrl(student, teacher, place=place)
    f = (
        (student.taps["stage1"] if place == "map" else student.taps["embedding"][:, :, None, None])
        .double()
        .numpy()
    )
    weight = method.state_dict()["connector.0.weight"].numpy()[:, :, 0, 0]
    r = np.einsum("oc,nchw->nohw", weight, f)
    r = (r - r.mean((0, 2, 3), keepdims=True)) / np.sqrt(r.var((0, 2, 3), keepdims=True) + 1e-5)
    h = np.maximum(r, 0).mean((2, 3))
    w = teacher.classifier
    assert w is not None
    judged = h @ w.weight.numpy().T + (0 if w.bias is None else w.bias.numpy())
    wanted = {
        "srrl_feature": ((h - teacher.taps["stage1"].numpy().mean((2, 3))) ** 2).mean(),
        "srrl_softmax": ((judged - teacher.logits.numpy()) ** 2).mean(),
    }
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-9)


def test_both_terms_are_zero_where_the_translation_is_the_teachers_feature() -> None:
    student, teacher = pair(4, (3, 5), (4, 4), 3, 1, bias=True)
    method, _ = srrl(student, teacher)
    method.eval()
    with torch.no_grad():
        translated = method.connector(student.taps["stage1"])
    last = teacher.classifier
    assert last is not None
    same = Signals(
        nn.functional.linear(translated.mean((2, 3)), *last), {"stage1": translated}, classifier=last
    )
    for term in method(student, same, torch.zeros(4)).values():
        assert term.item() == pytest.approx(0, abs=1e-20)


def test_one_sample_with_one_place_gives_a_finite_loss() -> None:
    student, teacher = pair(1, (3, 4), (1, 1), 5, 1, True)
    _, terms = srrl(student, teacher, place="embedding")
    assert all(term.isfinite() for term in terms.values())


def test_the_gradient_goes_through_the_teachers_classifier_and_leaves_it_alone() -> None:
    student, teacher = pair(4, (3, 5), (4, 4), 3, 1, bias=True)
    assert teacher.classifier is not None
    for part in (student.taps["stage1"], *teacher.classifier):
        assert part is not None
        part.requires_grad_()
    method, terms = srrl(student, teacher)
    terms["srrl_softmax"].backward()
    assert student.taps["stage1"].grad is not None
    assert student.taps["stage1"].grad.any()
    assert all(part is None or part.grad is None for part in teacher.classifier)
    assert sorted(name for name, _ in method.named_parameters()) == [
        "connector.0.weight",
        "connector.1.bias",
        "connector.1.weight",
    ]


def test_tokens_are_translated_from_the_embedding_and_keep_both_signs() -> None:
    taps = {"block1": noise((4, 5, 6), 1), "embedding": noise((4, 6), 2)}
    both = Signals(noise((4, 3), 3), taps, classifier=Classifier(noise((3, 6), 4), None))
    method, terms = srrl(both, both, place="embedding")
    assert not any(isinstance(part, nn.ReLU) for part in method.connector)
    assert all(term.isfinite() for term in terms.values())


@pytest.mark.parametrize(
    ("student", "teacher", "classifier", "message"),
    [
        ({"embedding": (4,)}, {"embedding": (4,)}, True, "no last map.*place 'embedding'"),
        ({"stage1": (4, 2, 2)}, {"stage1": (4, 2, 2), "embedding": (4,)}, False, "none"),
        ({"stage1": (4, 2, 2)}, {"stage1": (4, 2, 2), "embedding": (9,)}, True, "takes 9 features.*has 4"),
    ],
)
def test_what_it_cannot_work_with_is_refused_with_the_reason(
    student: dict[str, tuple[int, ...]], teacher: dict[str, tuple[int, ...]], classifier: bool, message: str
) -> None:
    with pytest.raises(KdError, match=message):
        create("srrl").prepare(Shapes(2, student), Shapes(2, teacher, classifier=classifier))

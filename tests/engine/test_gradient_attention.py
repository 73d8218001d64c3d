"""Gradient-based attention transfer: against analytic gradients; through teacher and lesson."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kd_engine.backend import Backend
from kd_engine.batches import Batch, Draw
from kd_engine.errors import KdError
from kd_engine.lesson import Lesson
from kd_engine.methods import Method, create
from kd_engine.models import create as create_model
from kd_engine.models import taps_of
from kd_engine.recipe_knobs import HardwareKnobs
from kd_engine.sensitivity import GRADIENT, believed, sensitivity
from kd_engine.signals import Signals
from kd_engine.taps import measure
from kd_engine.tasks.classification import Classification
from kd_engine.teacher import LiveTeacher, Model

Weights = tuple[np.ndarray, np.ndarray]


def network(seed: int, pixels: int, width: int, classes: int) -> Weights:
    """A network of one hidden layer: logits = B tanh(A x)."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(width, pixels)), draw.normal(size=(classes, width))


def logits(weights: Weights, inputs: Tensor) -> Tensor:
    first, second = (torch.from_numpy(part).to(inputs.dtype) for part in weights)
    return (inputs.flatten(1) @ first.T).tanh() @ second.T


def slope(weights: Weights, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """∂CE/∂x of that network, by the chain rule: Aᵀ (1 − h²) Bᵀ (p − y)."""
    first, second = weights
    hidden = np.tanh(inputs @ first.T)
    power = np.exp(hidden @ second.T)
    error = power / power.sum(1, keepdims=True) - np.eye(len(second))[labels]
    return ((error @ second) * (1 - hidden**2)) @ first


def signals(weights: Weights, inputs: Tensor, target: Tensor) -> tuple[Signals, Signals]:
    """The same network as student and as teacher."""
    seen = inputs.clone().requires_grad_()
    answer = logits(weights, seen)
    labels = believed(target, answer)
    return Signals(answer, {"input": seen}), Signals(
        answer.detach(), {GRADIENT: sensitivity(seen, answer, labels, create_graph=True).detach()}
    )


def term(student: Signals, teacher: Signals, target: Tensor) -> Tensor:
    return create("gradient-at")(student, teacher, target)["gradient-at"]


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(1, 5),
    side=st.integers(1, 3),
    widths=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    classes=st.integers(2, 5),
    withheld=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int, side: int, widths: tuple[int, int], classes: int, withheld: bool, seed: int
) -> None:
    pixels = 3 * side * side
    ours, theirs = (network(seed + k, pixels, width, classes) for k, width in enumerate(widths))
    inputs = np.random.default_rng(seed + 2).normal(size=(batch, 3, side, side))
    target = np.random.default_rng(seed + 3).integers(classes, size=batch)
    labels = target.copy()
    if withheld:
        target[0] = -1
        labels[0] = (np.tanh(inputs[0].ravel() @ theirs[0].T) @ theirs[1].T).argmax()
    flat = inputs.reshape(batch, -1)
    gap = slope(ours, flat, labels) - slope(theirs, flat, labels)
    expected = float((gap**2).sum(1).mean())
    for dtype, rel in ((torch.float64, 1e-5), (torch.float32, 1e-4)):
        told = torch.from_numpy(inputs).to(dtype), torch.from_numpy(target)
        student, teacher = signals(ours, *told)[0], signals(theirs, *told)[1]
        assert term(student, teacher, told[1]).item() == pytest.approx(expected, rel=rel, abs=1e-9)


def test_its_gradient_is_the_numerical_one() -> None:
    draw = torch.Generator().manual_seed(1)
    inputs, target = torch.randn(3, 3, 2, 2, generator=draw, dtype=torch.float64), torch.tensor([0, 2, -1])
    _, teacher = signals(network(1, 12, 4, 3), inputs, target)
    second = torch.from_numpy(network(2, 12, 4, 3)[1])

    def loss(first: Tensor) -> Tensor:
        seen = inputs.clone().requires_grad_()
        answer = (seen.flatten(1) @ first.T).tanh() @ second.T
        return term(Signals(answer, {"input": seen}), teacher, target)

    first = torch.from_numpy(network(2, 12, 4, 3)[0]).requires_grad_()
    assert torch.autograd.gradcheck(loss, (first,))


def test_it_is_zero_with_a_finite_gradient_when_the_student_is_the_teacher() -> None:
    draw = torch.Generator().manual_seed(1)
    inputs, target = torch.randn(4, 3, 2, 2, generator=draw), torch.tensor([0, 1, 2, -1])
    student, teacher = signals(network(1, 12, 4, 3), inputs, target)
    loss = term(student, teacher, target)
    assert loss.item() == 0
    (grad,) = torch.autograd.grad(loss, student.taps["input"])
    assert grad.isfinite().all()


def test_a_constant_added_to_the_logits_changes_nothing() -> None:
    draw = torch.Generator().manual_seed(1)
    inputs, target = torch.randn(4, 3, 2, 2, generator=draw), torch.tensor([0, 1, 2, 0])
    student, _ = signals(network(1, 12, 4, 3), inputs, target)
    _, teacher = signals(network(2, 12, 4, 3), inputs, target)
    shifted = Signals(student.logits + 3.0, student.taps)
    torch.testing.assert_close(term(shifted, teacher, target), term(student, teacher, target))


def test_a_sample_counts_as_much_in_a_large_batch_as_alone() -> None:
    draw = torch.Generator().manual_seed(1)
    inputs, target = torch.randn(5, 3, 2, 2, generator=draw), torch.tensor([0, 1, 2, 0, -1])
    ours, theirs = network(1, 12, 4, 3), network(2, 12, 4, 3)
    alone = [
        term(signals(ours, x[None], y[None])[0], signals(theirs, x[None], y[None])[1], y[None])
        for x, y in zip(inputs, target, strict=True)
    ]
    together = term(signals(ours, inputs, target)[0], signals(theirs, inputs, target)[1], target)
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_it_reads_the_image_and_the_teachers_gradient_whatever_the_models_declare() -> None:
    bare = Signals(torch.zeros(2, 3)).shapes()
    method = create("gradient-at")
    assert method.problems(bare, bare) == []
    assert method.student_taps(bare, bare) == ("input",)
    assert method.teacher_taps(bare, bare) == (GRADIENT,)


# ---- through a lesson and a teacher


def a_batch(*target: int) -> Batch:
    numbers = np.arange(len(target))
    inputs = torch.randn(len(target), 3, 16, 16, generator=torch.Generator().manual_seed(5))
    return Batch(Draw(numbers, numbers), inputs, torch.tensor(target))


def a_model(name: str, seed: int, **knobs: int) -> Model:
    torch.manual_seed(seed)
    module = create_model(name, 4, 16, **knobs)
    taps = dict(taps_of(name, module))
    return Model(module, taps, measure(module, taps, 16), None)


def a_lesson(student: Model, teacher: Model, **methods: Method) -> Lesson:
    return Lesson(student.module, student.taps, Classification(), methods, (student.shapes, teacher.shapes))


def backend() -> Backend:
    return Backend(HardwareKnobs(device="cpu"))


@pytest.mark.parametrize("name", ["cnn", "vit-tiny"])
def test_the_teachers_gradient_is_the_one_that_a_backward_pass_finds(name: str) -> None:
    knobs = {"width": 4} if name == "cnn" else {"width": 8, "depth": 1}
    model, batch = a_model(name, 1, **knobs), a_batch(0, 3, -1)
    teacher = LiveTeacher(model, backend())
    plain = teacher.signals(batch)
    teacher.listen(["embedding", GRADIENT])
    said = teacher.signals(batch)
    assert set(said.taps) == {"embedding", GRADIENT}
    assert not any(tensor.requires_grad for tensor in (said.logits, *said.taps.values()))
    assert torch.equal(said.logits, plain.logits)
    labels = [0, 3, int(plain.logits[2].argmax())]
    for i, label in enumerate(labels):  # one by one: in eval mode no sample depends on another
        image = batch.inputs[i : i + 1].clone().requires_grad_()
        (-model.module(image).log_softmax(-1)[0, label]).backward()
        assert image.grad is not None
        torch.testing.assert_close(said.taps[GRADIENT][i], image.grad[0], rtol=1e-4, atol=1e-7)
    assert all(parameter.grad is None for parameter in model.module.parameters())
    teacher.listen(["embedding"])
    assert set(teacher.signals(batch).taps) == {"embedding"}


def test_a_student_in_a_lesson_learns_from_it_and_the_batch_stays_as_it_was() -> None:
    student, model, batch = a_model("cnn", 1, width=4), a_model("cnn", 2, width=8), a_batch(0, 3, -1, 1)
    taught = a_lesson(student, model, **{"gradient-at": create("gradient-at"), "at": create("at")})
    teacher = LiveTeacher(model, backend())
    teacher.listen(taught.teacher_taps)
    taught.weights["label"] = 0.0
    before = batch.inputs.clone()
    optimizer = torch.optim.SGD(taught.parameters(), lr=1.0)
    losses = []
    for _ in range(8):
        made = taught(taught.hear(batch.inputs), teacher.signals(batch), batch.target)
        losses.append(made.terms["gradient-at"].item())
        optimizer.zero_grad()
        made.terms["gradient-at"].backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(batch.inputs, before)
    assert not batch.inputs.requires_grad
    assert batch.inputs.grad is None


def test_a_student_that_is_the_teacher_has_nothing_to_learn() -> None:
    model, batch = a_model("vit-tiny", 1, width=8, depth=1), a_batch(0, 3, -1)
    taught = a_lesson(model, model, **{"gradient-at": create("gradient-at")})
    teacher = LiveTeacher(model, backend())
    teacher.listen(taught.teacher_taps)
    made = taught(taught.hear(batch.inputs), teacher.signals(batch), batch.target)
    assert made.terms["gradient-at"].item() < 1e-10


def test_peers_are_not_asked_for_it() -> None:
    model = a_model("cnn", 1, width=4)
    with pytest.raises(KdError, match="which peers never say"):
        Lesson(
            model.module,
            model.taps,
            Classification(),
            {"gradient-at": create("gradient-at")},
            (model.shapes, model.shapes),
            teaches=True,
        )


def test_attention_without_open_weights_has_a_second_derivative_in_a_lesson() -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 8, stride=8)
            self.head = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patches(x).flatten(2).mT.unsqueeze(1)
            mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
            answer: Tensor = self.head(mixed.mean((1, 2)))
            return answer

    torch.manual_seed(0)
    module = Fused()
    shapes = Signals(torch.zeros(1, 4)).shapes()
    methods = {"gradient-at": create("gradient-at")}
    taught = Lesson(module, {}, Classification(), methods, (shapes, shapes))
    batch = a_batch(0, 3)
    said = taught.hear(batch.inputs)
    teacher = Signals(said.logits, {GRADIENT: torch.ones_like(batch.inputs)})
    taught(said, teacher, batch.target).total.backward()
    grad = module.patches.weight.grad
    assert grad is not None
    assert grad.isfinite().all()
    assert grad.any()

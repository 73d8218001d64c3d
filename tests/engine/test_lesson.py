"""A student's lesson: weighted losses, what is trained with it, what is not computed; and reports on it."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kd_engine.backend import Backend
from kd_engine.batches import Batch, Draw
from kd_engine.errors import KdError
from kd_engine.lesson import LABEL, Lesson, term_names
from kd_engine.methods import Method, create
from kd_engine.models import create as create_model
from kd_engine.models import taps_of
from kd_engine.recipe import MethodSection, NamedSection
from kd_engine.recipe_knobs import HardwareKnobs, SgdKnobs
from kd_engine.signals import Shapes, Signals
from kd_engine.stages import Learner
from kd_engine.taps import Reader, measure
from kd_engine.tasks import UNLABELLED
from kd_engine.tasks.classification import Classification
from kd_engine.trainee import Tally, Trainee

N, SIZE, CLASSES = 4, 32, 10


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def student() -> nn.Module:
    return create_model("cnn", CLASSES, SIZE, width=2)


@pytest.fixture
def shapes(student: nn.Module) -> Shapes:
    return measure(student, taps_of("cnn", student), SIZE)


def lesson(student: nn.Module, methods: dict[str, Method], shapes: Shapes | None) -> Lesson:
    both = None if shapes is None else (shapes, shapes)
    return Lesson(student, taps_of("cnn", student), Classification(), methods, both)


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(N, 3, SIZE, SIZE), torch.arange(N)


def a_batch(inputs: Tensor, target: Tensor) -> Batch:
    indices = np.arange(len(target))
    return Batch(Draw(indices, indices), inputs, target)


def teachers(inputs: Tensor) -> Signals:
    """What another network says of the batch, with all taps."""
    module = create_model("cnn", CLASSES, SIZE, width=2).eval()
    with torch.no_grad(), Reader(module, taps_of("cnn", module).values()) as reader:
        return reader(inputs)


def test_the_total_is_the_weighted_sum_of_the_raw_terms(student: nn.Module, shapes: Shapes) -> None:
    made = lesson(student, {"kd": create("kd"), "at": create("at")}, shapes)
    made.weights = {LABEL: 0.3, "kd": 0.9, "at": 50.0}
    inputs, target = batch()
    teacher = teachers(inputs)
    total, terms, *_ = made(made.hear(inputs), teacher, target)
    assert set(terms) == {LABEL, "kd", "at"}
    assert total.item() == pytest.approx(
        sum(made.weights[name] * term.item() for name, term in terms.items())
    )
    logits = student(inputs)
    assert terms[LABEL].item() == pytest.approx(nn.functional.cross_entropy(logits, target).item(), rel=1e-5)


def test_a_loss_without_weight_is_not_computed(student: nn.Module, shapes: Shapes) -> None:
    class Counting(Method):
        name = "counting"
        calls = 0

        def terms(self, student: Signals, teacher: Signals, target: Tensor) -> dict[str, Tensor]:
            Counting.calls += 1
            return {"counting": student.logits.sum()}

    made = lesson(student, {"counting": Counting(Counting.Knobs())}, shapes)
    inputs, target = batch()
    made.weights["counting"] = 0.0
    assert not made.needs_teacher
    assert set(made(made.hear(inputs), teachers(inputs), target)[1]) == {LABEL}
    assert Counting.calls == 0
    made.weights["counting"] = 0.5
    assert made.needs_teacher
    assert set(made(made.hear(inputs), teachers(inputs), target)[1]) == {LABEL, "counting"}
    made.weights[LABEL] = 0.0
    assert set(made(made.hear(inputs), teachers(inputs), target)[1]) == {"counting"}


def test_without_any_weight_a_step_still_has_a_gradient_of_zero(student: nn.Module) -> None:
    made = lesson(student, {}, None)
    made.weights[LABEL] = 0.0
    inputs, target = batch()
    total, terms, *_ = made(made.hear(inputs), None, target)
    total.backward()
    assert terms == {}
    assert total.item() == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in student.parameters())


def test_a_batch_without_labels_has_a_label_loss_of_zero_and_no_hits(student: nn.Module) -> None:
    made = lesson(student, {}, None)
    inputs, _ = batch()
    total, *_, (right, counted) = made(made.hear(inputs), None, torch.full((N,), UNLABELLED))
    assert (total.item(), right.item(), counted.item()) == (0.0, 0, 0)


def test_the_methods_parts_are_trained_and_saved_with_the_student(student: nn.Module, shapes: Shapes) -> None:
    made = lesson(student, {"fitnet": create("fitnet")}, shapes)
    theirs = [name for name, _ in made.named_parameters() if not name.startswith("student.")]
    assert theirs
    assert all(name.startswith("methods.fitnet.") for name in theirs)
    assert set(theirs) < set(made.state_dict())
    inputs, target = batch()
    made(made.hear(inputs), teachers(inputs), target)[0].backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_the_student_itself_is_not_changed_by_its_lesson(student: nn.Module, shapes: Shapes) -> None:
    before = set(student.state_dict())
    made = lesson(student, {"fitnet": create("fitnet"), "at": create("at")}, shapes)
    assert set(student.state_dict()) == before
    assert any(module._forward_hooks for module in student.modules())
    made.close()
    made.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in student.modules())


def test_each_tap_is_read_once_though_two_methods_want_it(student: nn.Module, shapes: Shapes) -> None:
    lesson(student, {"at": create("at"), "at_2": create("at")}, shapes)
    assert max(len(module._forward_hooks) for module in student.modules()) == 1


def test_a_tap_that_the_student_has_not_is_an_error_with_those_it_has(
    student: nn.Module, shapes: Shapes
) -> None:
    class Deep(Method):
        name = "deep"

        def student_taps(self, student: Shapes, teacher: Shapes) -> tuple[str, ...]:
            return ("stage9",)

    with pytest.raises(KdError, match="the student has no tap stage9; it has stem, "):
        lesson(student, {"deep": Deep(Deep.Knobs())}, shapes)


@pytest.mark.parametrize(
    ("methods", "names"),
    [
        ([], []),
        (["kd"], ["kd"]),
        (["kd", "at", "kd", "kd"], ["kd", "at", "kd_2", "kd_3"]),
    ],
)
def test_terms_have_names_of_their_own(methods: list[str], names: list[str]) -> None:
    assert term_names(methods) == names


# -- a trainee and its reports --


def trainee(student: nn.Module, shapes: Shapes | None = None, *methods: dict[str, Any]) -> Trainee:
    sections = tuple(MethodSection(**method) for method in methods)
    learner = Learner("student", "stages.0", 1.0, sections, labels_only=not sections)
    sgd = NamedSection(name="sgd", **SgdKnobs(lr=0.1).model_dump())
    both = None if shapes is None else (shapes, shapes)
    taps = taps_of("cnn", student)
    return Trainee(learner, student, taps, Classification(), both, sgd, Backend(HardwareKnobs(device="cpu")))


def test_a_report_is_the_mean_over_its_steps_and_the_epoch_over_its_reports(student: nn.Module) -> None:
    made = trainee(student)
    losses = []
    for step in range(5):
        inputs, target = batch()
        made.learn(step, 0.01, a_batch(inputs, target), None)
        losses.append(made._records[-1][1].values[0].item())
        if step == 1:
            first = made.report()
    second = made.report()
    assert (first.steps, second.steps, made.epoch.steps) == (2, 3, 5)
    assert first.loss == pytest.approx(sum(losses[:2]) / 2)
    assert second.loss == pytest.approx(sum(losses[2:]) / 3)
    assert made.epoch.loss == sum(losses) / 5  # to the last bit, however it was cut into reports
    assert (made.epoch.counted, made.report().steps) == (5 * N, 0)


def test_accuracy_counts_labelled_samples_only(student: nn.Module) -> None:
    made = trainee(student)
    inputs, target = batch()
    target[1:] = UNLABELLED
    made.learn(0, 0.0, a_batch(inputs, target), None)
    made.report()
    assert made.epoch.counted == 1
    assert made.epoch.top1 in (0.0, 1.0)
    made.epoch = Tally()
    made.learn(1, 0.0, a_batch(inputs, torch.full((N,), UNLABELLED)), None)
    made.report()
    assert made.epoch.top1 is None


def test_a_loss_that_is_no_number_is_reported_with_its_step_and_terms(
    student: nn.Module, shapes: Shapes
) -> None:
    made = trainee(student, shapes, {"method": "kd", "weight": 1.0})
    made.lesson.weights = {LABEL: 1.0, "kd": 1.0}
    inputs, target = batch()
    good = teachers(inputs)
    bad = Signals(good.logits * math.nan)
    for step, teacher in enumerate((good, bad, good)):
        made.learn(10 + step, 0.0, a_batch(inputs, target), teacher)
    report = made.report()
    assert (report.steps, report.bad, report.bad_terms) == (3, 11, ("kd",))


@pytest.mark.parametrize(
    ("told", "improved", "best"),
    [
        ([0.1, 0.3, 0.3, 0.2], [True, True, False, False], (0.3, 2)),
        ([None, None], [True, True], (None, 2)),
        ([0.0], [True], (0.0, 1)),
    ],
)
def test_the_best_is_the_first_of_equals_or_without_figures_the_last(
    student: nn.Module, told: list[float | None], improved: list[bool], best: tuple[float | None, int]
) -> None:
    made = trainee(student)
    assert [made.improved(top1, epoch) for epoch, top1 in enumerate(told, 1)] == improved
    assert made.best == best


def test_a_trainee_goes_on_from_its_state_bit_for_bit(student: nn.Module, shapes: Shapes) -> None:
    method = {"method": "fitnet", "weight": 10.0}
    one, other = trainee(copy.deepcopy(student), shapes, method), trainee(student, shapes, method)
    other.lesson.load_state_dict(one.lesson.state_dict())
    inputs, target = batch()
    teacher = teachers(inputs)
    for step in range(3):
        one.learn(step, 0.05, a_batch(inputs, target), teacher)
    one.report()
    other.restore(copy.deepcopy(one.state()))
    assert (other.epoch, other.best) == (one.epoch, one.best)
    for made in (one, other):
        made.learn(3, 0.05, a_batch(inputs, target), teacher)
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.lesson.state_dict().values(), other.lesson.state_dict().values(), strict=True)
    )

"""Prototypes: against a float64 reference in plain loops; how they move; classes without members."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.methods import create
from kd_engine.methods.prototype import Prototype
from kd_engine.signals import Shapes, Signals


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def said(embedding: Tensor, classes: int = 3, logits: Tensor | None = None) -> Signals:
    empty = torch.zeros(len(embedding), classes) if logits is None else logits
    return Signals(empty, {"embedding": embedding})


def prototype(student: int = 4, teacher: int = 4, classes: int = 3, **knobs: object) -> Prototype:
    torch.manual_seed(0)
    method = create("prototype", **knobs)
    method.prepare(Shapes(classes, {"embedding": (student,)}), Shapes(classes, {"embedding": (teacher,)}))
    assert isinstance(method, Prototype)
    return method.double()


class Reference:
    """Prototypes as lists, moved sample by sample's share, and the loss in plain sums."""

    def __init__(self, method: Prototype) -> None:
        self.knobs = method.knobs
        self.weight, self.bias = (p.detach().numpy() for p in method.projector.parameters())
        self.signs = method.signs.numpy()
        self.centres: dict[int, list[np.ndarray]] = {}
        self.members: dict[int, list[float]] = {}
        self.v, self.seen = 0.0, 0.0

    def step(self, student: np.ndarray, teacher: np.ndarray, labels: list[int]) -> float:
        k, window, n = self.knobs.per_class, self.knobs.window, len(labels)
        for c in set(labels) - set(self.centres):
            mean = teacher[[label == c for label in labels]].mean(0)
            self.centres[c] = [mean + 0.5 * teacher.std(0) * self.signs[j] for j in range(k)]
            self.members[c] = [0.0] * k
        joined = [
            (c, int(np.argmin([((t - p) ** 2).sum() for p in self.centres[c]])))
            for t, c in zip(teacher, labels, strict=True)
        ]
        for c in self.centres:
            for j in range(k):
                mine = [t for t, where in zip(teacher, joined, strict=True) if where == (c, j)]
                self.members[c][j] = min(self.members[c][j], window) + len(mine)
                for t in np.array(mine).sum(0, keepdims=True) if mine else ():
                    self.centres[c][j] = (
                        self.centres[c][j] + (t - len(mine) * self.centres[c][j]) / (self.members[c][j])
                    )
        live = [
            p
            for c in sorted(self.centres)
            for p, m in zip(self.centres[c], self.members[c], strict=True)
            if m
        ]
        apart = np.mean([[((t - p) ** 2).sum() for p in live] for t in teacher])
        self.seen = min(self.seen, window) + n
        self.v += (apart - self.v) * n / self.seen
        total = 0.0
        for s, t in zip(student @ self.weight.T + self.bias, teacher, strict=True):
            logs = []
            for x in (s, t):
                z = np.array([-((x - p) ** 2).sum() for p in live]) / (self.knobs.temperature * self.v)
                logs.append(z - z.max() - np.log(np.exp(z - z.max()).sum()))
            total += (np.exp(logs[1]) * (logs[1] - logs[0])).sum()
        return total / n


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(2, 9),
    widths=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    classes=st.integers(2, 4),
    per_class=st.integers(1, 3),
    temperature=st.sampled_from([0.1, 1.0]),
    window=st.sampled_from([10, 5000]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula_over_several_steps(
    batch: int,
    widths: tuple[int, int],
    classes: int,
    per_class: int,
    temperature: float,
    window: int,
    seed: int,
) -> None:
    method = prototype(*widths, classes, per_class=per_class, temperature=temperature, window=window)
    reference = Reference(method)
    rng = np.random.default_rng(seed)
    for step in range(4):
        labels = rng.integers(classes, size=batch)
        student, teacher = noise((batch, widths[0]), seed + step), noise((batch, widths[1]), seed + step + 50)
        term = method(said(student, classes), said(teacher, classes), torch.from_numpy(labels))
        expected = reference.step(student.numpy(), teacher.numpy(), labels.tolist())
        assert term["prototype"].item() == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_with_one_a_class_they_are_the_means_of_all_that_was_seen() -> None:
    method = prototype()
    rows, labels = noise((30, 4), 1), torch.arange(30) % 3
    for part in range(3):
        cut = slice(10 * part, 10 * part + 10)
        method(said(rows[cut]), said(rows[cut]), labels[cut])
    for c in range(3):
        torch.testing.assert_close(method.centres[c, 0], rows[labels == c].mean(0))
    assert method.members.flatten().tolist() == [10, 10, 10]


def test_several_a_class_find_its_kinds() -> None:
    method = prototype(2, 2, 2, per_class=2)
    kinds = torch.tensor([[-5.0, 0.0], [5.0, 0.0], [0.0, -5.0], [0.0, 5.0]], dtype=torch.float64)
    for step in range(10):
        which = torch.arange(40) % 4
        rows = kinds[which] + 0.1 * noise((40, 2), step)
        method(said(rows, 2), said(rows, 2), which // 2)
    found = method.centres.flatten(0, 1)
    nearest = torch.cdist(kinds, found).min(1)
    assert nearest.values.max() < 1
    assert sorted(nearest.indices.tolist()) == [0, 1, 2, 3]


def test_it_is_zero_where_the_student_stands_where_the_teacher_stands() -> None:
    method = prototype()
    with torch.no_grad():
        method.projector.weight.copy_(torch.eye(4))
        method.projector.bias.zero_()
    rows = noise((9, 4), 1)
    assert method(said(rows), said(rows), torch.arange(9) % 3)["prototype"].item() == pytest.approx(
        0, abs=1e-14
    )
    assert method(said(rows.flip(0)), said(rows), torch.arange(9) % 3)["prototype"].item() > 0.01


def test_a_withheld_label_is_the_teachers_guess() -> None:
    rows, labels = noise((6, 4), 1), torch.tensor([0, 1, 2, 0, 1, 2])
    sure = torch.nn.functional.one_hot(labels, 3).double()
    known, guessed = prototype(), prototype()
    known(said(rows), said(rows), labels)
    guessed(said(rows), said(rows, logits=sure), torch.tensor([0, -1, -1, 0, -1, 2]))
    assert torch.equal(known.centres, guessed.centres)


def test_a_class_without_members_takes_no_part() -> None:
    rows, labels = noise((6, 4), 1), torch.tensor([0, 2, 2, 0, 0, 2])
    wide, narrow = prototype(classes=4), prototype(classes=2)
    narrow.load_state_dict(
        {
            **narrow.state_dict(),
            "projector.weight": wide.projector.weight,
            "projector.bias": wide.projector.bias,
        }
    )
    many = wide(said(rows, 4), said(rows.flip(0), 4), labels)["prototype"]
    few = narrow(said(rows, 2), said(rows.flip(0), 2), labels // 2)["prototype"]
    torch.testing.assert_close(many, few)
    assert many.item() > 0


def test_before_any_training_and_with_one_prototype_the_loss_is_zero_and_finite() -> None:
    method = prototype().eval()
    row = noise((1, 4), 1).requires_grad_()
    assert method(said(row), said(row.detach()), torch.tensor([1]))["prototype"].item() == 0.0
    method.train()
    loss = method(said(row), said(row.detach()), torch.tensor([1]))["prototype"]
    loss.backward()
    assert loss.item() == 0.0
    assert row.grad is not None
    assert row.grad.isfinite().all()


def test_a_teacher_that_says_the_same_of_all_gives_a_finite_loss() -> None:
    method = prototype()
    student = noise((4, 4), 1).requires_grad_()
    loss = method(said(student), said(torch.zeros(4, 4).double()), torch.tensor([0, 1, 2, 0]))["prototype"]
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("per_class", [1, 3])
def test_shift_and_scale_of_the_teachers_space_do_not_matter(per_class: int) -> None:
    rows, labels = noise((12, 4), 1), torch.arange(12) % 3
    plain, other = prototype(per_class=per_class), prototype(per_class=per_class)
    with torch.no_grad():
        other.projector.weight.copy_(3 * plain.projector.weight)
        other.projector.bias.copy_(3 * plain.projector.bias + 7)
    student = said(noise((12, 4), 2))
    torch.testing.assert_close(
        other(student, said(3 * rows + 7), labels)["prototype"],
        plain(student, said(rows), labels)["prototype"],
    )


def test_evaluation_moves_nothing_and_a_saved_state_goes_on_bit_for_bit() -> None:
    method, other = prototype(per_class=2), prototype(per_class=2)
    both, labels = (said(noise((6, 4), 1)), said(noise((6, 4), 2))), torch.arange(6) % 3
    method(*both, labels)
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    method.eval()(*both, labels)
    assert all(torch.equal(tensor, state[name]) for name, tensor in method.state_dict().items())
    other.load_state_dict(state)
    first, second = method.train()(*both, labels), other(*both, labels)
    assert first == second
    assert all(torch.equal(a, b) for a, b in zip(method.buffers(), other.buffers(), strict=True))


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (Shapes(3), Shapes(3, {"embedding": (4,)}), "no embeddings in both models"),
        (Shapes(2, {"embedding": (4,)}), Shapes(3, {"embedding": (4,)}), "2 classes, the teacher 3"),
    ],
)
def test_what_it_cannot_work_with_is_refused_with_the_reason(
    student: Shapes, teacher: Shapes, message: str
) -> None:
    with pytest.raises(KdError, match=message):
        create("prototype").prepare(student, teacher)

"""Contrastive distillation: against a float64 reference with injected draws; who is a negative; its banks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.events import EpochDone
from kd_engine.methods import Method, create
from kd_engine.methods.crd import Crd, negatives
from kd_engine.session import Session
from kd_engine.signals import Shapes, Signals
from tests.engine import tiny

EPS = 1e-7


def embedding(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def signals(tensor: Tensor, samples: Tensor) -> Signals:
    return Signals(torch.zeros(len(tensor), 3), {"embedding": tensor}, samples=samples)


def crd(n: int, student: int = 5, teacher: int = 7, **knobs: object) -> Crd:
    torch.manual_seed(0)
    method = create("crd", **{"dimensions": 8, "negatives": 6, **knobs})
    method.prepare(
        Shapes(3, {"embedding": (student,)}, samples=n), Shapes(3, {"embedding": (teacher,)}, samples=n)
    )
    assert isinstance(method, Crd)
    return method


def unit(rows: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = rows / np.sqrt((rows**2).sum(1, keepdims=True))
    return scaled


def numbers(method: Method) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().astype(float) for name, tensor in method.state_dict().items()}


class Reference:
    """Two banks, Z of the first batch, and the loss, sample by sample in float64."""

    def __init__(self, method: Crd) -> None:
        self.state = numbers(method)
        self.banks = [self.state["bank_student"], self.state["bank_teacher"]]
        self.knobs = method.knobs
        self.z: list[float] | None = None

    def step(self, student: np.ndarray, teacher: np.ndarray, samples: list[int], drawn: np.ndarray) -> float:
        sides = [
            unit(f @ self.state[f"embed_{side}.weight"].T + self.state[f"embed_{side}.bias"])
            for f, side in ((student, "student"), (teacher, "teacher"))
        ]
        n, k = len(self.banks[0]), drawn.shape[1]
        values = []
        for anchors, bank in zip(sides, self.banks[::-1], strict=True):
            rows = [
                [np.exp(a @ bank[m] / self.knobs.temperature) for m in (i, *negatives)]
                for a, i, negatives in zip(anchors, samples, drawn, strict=True)
            ]
            values.append(np.array(rows))
        if self.z is None:
            self.z = [n * value.mean() for value in values]
        loss = 0.0
        for value, z in zip(values, self.z, strict=True):
            for row in value / z:
                loss -= np.log(row[0] / (row[0] + k / n + EPS))
                loss -= sum(np.log((k / n) / (p + k / n + EPS)) for p in row[1:])
        for bank, seen in zip(self.banks, sides, strict=True):
            kept = self.knobs.momentum
            bank[samples] = unit(kept * bank[samples] + (1 - kept) * seen)
        return loss / len(samples)


@settings(max_examples=15, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(1, 5),
    more=st.integers(1, 9),
    k=st.integers(1, 12),
    temperature=st.sampled_from([0.07, 0.5]),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula_over_several_steps(
    batch: int, more: int, k: int, temperature: float, momentum: float, seed: int
) -> None:
    n = batch + more
    method = crd(n, negatives=k, temperature=temperature, momentum=momentum).double()
    reference = Reference(method)
    rng = np.random.default_rng(seed)
    for step in range(3):
        samples = rng.permutation(n)[:batch]
        drawn = rng.integers(n, size=(batch, min(k, n)))
        method.draw = lambda _samples, drawn=drawn: torch.from_numpy(drawn)  # type: ignore[method-assign]
        student, teacher = (embedding(batch, width, seed + step + width).double() for width in (5, 7))
        own = torch.from_numpy(samples)
        term = method(signals(student, own), signals(teacher, own), torch.zeros(batch, dtype=torch.long))
        expected = reference.step(student.numpy(), teacher.numpy(), list(samples), drawn)
        assert term["crd"].item() == pytest.approx(expected, rel=1e-9)
        for bank, wanted in zip((method.bank_student, method.bank_teacher), reference.banks, strict=True):
            np.testing.assert_allclose(bank.numpy(), wanted, atol=1e-12)


def test_negatives_are_all_but_the_known_class_and_each_as_often() -> None:
    labels = torch.tensor([0, 1, -1, 1, 2, 0, -1, 1])
    samples = torch.tensor([0, 1, 2, 4])
    lots = ((torch.arange(840) + 0.5) / 840).expand(4, 840)
    drawn = negatives(labels, samples, lots)
    allowed = [{1, 2, 3, 4, 6, 7}, {0, 2, 4, 5, 6}, {0, 1, 3, 4, 5, 6, 7}, {0, 1, 2, 3, 5, 6, 7}]
    for row, who in zip(drawn, allowed, strict=True):
        counts = torch.bincount(row, minlength=8)
        assert set(counts.nonzero().flatten().tolist()) == who
        assert set(counts[list(who)].tolist()) == {840 // len(who)}


@pytest.mark.parametrize("lot", [0.0, 1.0 - 2**-24])
def test_the_ends_of_a_draw_stay_among_the_samples(lot: float) -> None:
    labels = torch.zeros(40_000, dtype=torch.long)
    labels[::2] = 1
    drawn = negatives(labels, torch.tensor([0, 1]), torch.full((2, 1), lot))
    assert labels[drawn].flatten().tolist() == [0, 1]


def test_where_all_are_of_one_class_only_the_sample_itself_is_spared() -> None:
    drawn = negatives(torch.zeros(4, dtype=torch.long), torch.arange(4), torch.rand(4, 200))
    for i, row in enumerate(drawn):
        assert set(row.tolist()) == {0, 1, 2, 3} - {i}


def test_labels_are_learned_as_they_are_seen_and_then_spare_their_class() -> None:
    method = crd(6, negatives=6)
    first, second = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
    for samples, target in ((first, [0, 0, -1]), (second, [0, 1, 1])):
        both = signals(embedding(3, 5, 1), samples), signals(embedding(3, 7, 2), samples)
        method(*both, torch.tensor(target))
    assert method.labels.tolist() == [0, 0, -1, 0, 1, 1]
    for _ in range(20):
        drawn = method.draw(torch.tensor([0, 5]))
        assert set(drawn[0].tolist()) <= {2, 4, 5}
        assert set(drawn[1].tolist()) <= {0, 1, 2, 3}


def test_more_negatives_than_samples_are_not_drawn() -> None:
    assert crd(5, negatives=16384).draw(torch.arange(2)).shape == (2, 5)
    assert crd(50, negatives=16).draw(torch.arange(2)).shape == (2, 16)


def test_evaluation_changes_nothing_and_repeats_itself() -> None:
    method = crd(6)
    samples, target = torch.tensor([4, 0, 2]), torch.tensor([1, 0, 1])
    both = signals(embedding(3, 5, 1), samples), signals(embedding(3, 7, 2), samples)
    method.eval()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    first, second = method(*both, target)["crd"], method(*both, target)["crd"]
    assert first == second
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())
    method.train()(*both, target)
    changed = {name for name, tensor in method.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"bank_student", "bank_teacher", "scale", "labels"}


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    method, other = crd(6), crd(6)
    samples, target = torch.tensor([4, 0, 2]), torch.tensor([1, 0, 1])
    both = signals(embedding(3, 5, 1), samples), signals(embedding(3, 7, 2), samples)
    method(*both, target)
    other.load_state_dict(method.state_dict())
    terms = []
    for each in (method, other):
        torch.manual_seed(3)
        terms.append([each(*both, target)["crd"] for _ in range(2)])
    assert terms[0] == terms[1]
    assert terms[0][0] != terms[0][1]
    assert all(torch.equal(a, b) for a, b in zip(method.buffers(), other.buffers(), strict=True))


def test_it_learns_to_tell_samples_apart_and_the_gradient_spares_the_banks() -> None:
    method = crd(12, negatives=12)
    student = embedding(12, 5, 1).requires_grad_()
    samples, target = torch.arange(12), torch.arange(12) % 3
    optimizer = torch.optim.SGD([student, *method.parameters()], lr=0.5)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = method(signals(student, samples), signals(embedding(12, 7, 2), samples), target)["crd"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert not any(buffer.requires_grad for buffer in method.buffers())


def test_a_dead_embedding_gives_a_finite_loss_and_gradient() -> None:
    method = crd(4)
    with torch.no_grad():
        method.embed_student.bias.zero_()
    dead = torch.zeros(2, 5, requires_grad=True)
    samples = torch.arange(2)
    loss = method(signals(dead, samples), signals(embedding(2, 7, 2), samples), torch.tensor([0, 1]))["crd"]
    loss.backward()
    assert loss.isfinite()
    assert dead.grad is not None
    assert dead.grad.isfinite().all()


@pytest.mark.usefixtures("quick")
def test_a_run_that_was_killed_ends_with_the_same_bits_memories_and_prototypes_included(
    teacher: Path, tmp_path: Path
) -> None:
    methods = [{"method": "crd", "negatives": 20}, {"method": "prototype", "per_class": 2}]
    recipe = tiny.recipe(teacher, stages__0__methods=methods, data__labels_per_class=2)
    alone = tiny.run(recipe, tmp_path / "alone")

    def work() -> None:
        tiny.until(Session(recipe, tmp_path / "killed"), EpochDone, epoch=2)
        tiny.die()

    assert tiny.in_child(work) == 9
    (folder,) = (tmp_path / "killed").iterdir()
    session = Session.resume(folder.name, tmp_path / "killed")
    tiny.finish(session)
    tiny.assert_same_run(alone, tiny.folder(session))


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (Shapes(3, {"embedding": (4,)}), Shapes(3, {"embedding": (4,)}), "sample numbers, which a run gives"),
        (Shapes(3, {"embedding": (4,)}, samples=1), Shapes(3, {"embedding": (4,)}), "and two samples"),
        (Shapes(3, {}, samples=9), Shapes(3, {"embedding": (4,)}), "no embeddings in both models"),
    ],
)
def test_what_it_cannot_work_with_is_refused_with_the_reason(
    student: Shapes, teacher: Shapes, message: str
) -> None:
    with pytest.raises(KdError, match=message):
        create("crd").prepare(student, teacher)

"""Factor transfer: both phases against a float64 reference; who learns in which; parts that go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_engine.errors import KdError
from kd_engine.events import StepDone
from kd_engine.methods import Terms, create
from kd_engine.methods.ft import Ft, distance
from kd_engine.session import Session
from kd_engine.signals import Shapes, Signals
from tests.engine import reference as ref
from tests.engine import tiny

sides = st.sampled_from([(2, 2), (4, 4), (4, 8), (6, 3)])
State = dict[str, np.ndarray]


def one(shape: tuple[int, ...], seed: int) -> Signals:
    return ref.signals({"stage1": ref.feature(shape, seed)})


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.1 * x)


def paraphrased(f: np.ndarray, state: State) -> np.ndarray:
    for layer in (0, 2, 4):
        at = f"paraphraser.{layer}"
        f = leaky(ref.conv(f, state[f"{at}.weight"], state[f"{at}.bias"]))
    return f


def restored(f: np.ndarray, state: State) -> np.ndarray:
    for layer in (0, 2, 4):
        at = f"restorer.{layer}"
        f = leaky(ref.transposed(f, state[f"{at}.weight"], state[f"{at}.bias"]))
    return f


def translated(f: np.ndarray, state: State) -> np.ndarray:
    for layer in (0, 3, 6):
        at, norm = f"translator.{layer}", f"translator.{layer + 1}"
        f = ref.conv(f, state[f"{at}.weight"], state[f"{at}.bias"])
        f = leaky(ref.batch_norm(f, state[f"{norm}.weight"], state[f"{norm}.bias"]))
    return f


def direction(f: np.ndarray, factors: str) -> np.ndarray:
    rows = ((f**2).mean(1) if factors == "reference" else f).reshape(len(f), -1)
    return rows / np.sqrt((rows**2).sum(1, keepdims=True))


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(1, 4),
    channels=st.tuples(st.integers(1, 4), st.integers(2, 6)),
    sizes=st.tuples(sides, sides),
    rate=st.sampled_from([0.2, 0.5, 1.5]),
    factors=st.sampled_from(["reference", "paper"]),
    seed=st.integers(0, 1000),
)
def test_both_phases_equal_the_formulas(
    batch: int,
    channels: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    rate: float,
    factors: str,
    seed: int,
) -> None:
    student = one((batch, channels[0], *sizes[0]), seed)
    teacher = one((batch, channels[1], *sizes[1]), seed + 1)
    f_s, f_t = (ref.numpy(s.taps["stage1"]) for s in (student, teacher))
    first = ref.prepared(create("ft", phase="paraphrase", rate=rate), student, teacher, seed)
    state = ref.arrays(first)
    factor = paraphrased(f_t, state)
    assert factor.shape[1] == max(1, int(rate * channels[1]))
    wanted = ((restored(factor, state) - f_t) ** 2).mean()
    assert ref.terms(first, student, teacher)["ft_paraphrase"].item() == pytest.approx(wanted, rel=1e-6)

    second = ref.prepared(create("ft", rate=rate, factors=factors), student, teacher, seed)
    ours, theirs = ref.to_smaller(translated(f_s, state), factor)
    wanted = np.abs(direction(ours, factors) - direction(theirs, factors)).mean()
    assert ref.terms(second, student, teacher)["ft"].item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("factors", ["reference", "paper"])
def test_it_is_zero_at_equality_and_a_positive_scale_changes_nothing(factors: str) -> None:
    f, g = ref.feature((3, 4, 4, 4), 1), ref.feature((3, 4, 4, 4), 2)
    assert distance(f, f.clone(), factors) == 0
    torch.testing.assert_close(distance(f * 7, g * 0.1, factors), distance(f, g, factors))


def test_dead_factors_give_a_finite_loss_and_gradient() -> None:
    dead = torch.zeros(2, 3, 4, 4, requires_grad=True)
    distance(dead, ref.feature((2, 3, 4, 4), 1).float(), "reference").backward()
    assert dead.grad is not None
    assert dead.grad.isfinite().all()


@pytest.mark.parametrize(
    ("phase", "learning"), [("paraphrase", {"paraphraser", "restorer"}), ("transfer", {"translator"})]
)
def test_each_phase_moves_only_what_it_should(phase: str, learning: set[str]) -> None:
    f = ref.feature((4, 3, 4, 4), 1).requires_grad_()
    student, teacher = ref.signals({"stage1": f}), one((4, 5, 4, 4), 2)
    method = ref.prepared(create("ft", phase=phase), student, teacher)
    (term,) = ref.terms(method, student, teacher).values()
    term.backward()
    moved = {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None}
    assert moved == learning
    assert (f.grad is not None) == (phase == "transfer")
    taps = method.student_taps(student.shapes(), teacher.shapes())
    assert taps == (("stage1",) if phase == "transfer" else ())


def test_what_the_paraphraser_learned_fits_the_next_stage() -> None:
    student, teacher = one((4, 3, 4, 4), 1), one((4, 6, 4, 4), 2)
    first = ref.prepared(create("ft", phase="paraphrase"), student, teacher)
    optimizer = torch.optim.Adam([p for p in first.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = ref.terms(first, student, teacher)["ft_paraphrase"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    second = ref.prepared(create("ft"), student, teacher, seed=1)
    untaught = ref.terms(second, student, teacher)["ft"]
    second.load_state_dict(first.state_dict())
    assert ref.terms(second, student, teacher)["ft"] != untaught
    assert not any(p.requires_grad for p in second.get_submodule("paraphraser").parameters())


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ({"stage1": (3, 4, 4)}, {"block1": (17, 8)}, "no common map taps"),
        ({"stage1": (3, 1, 1)}, {"stage1": (5, 4, 4)}, "one position.*set factors to 'paper'"),
    ],
)
def test_what_cannot_work_is_refused_in_both_phases(
    student: dict[str, tuple[int, ...]], teacher: dict[str, tuple[int, ...]], message: str
) -> None:
    for phase in ("paraphrase", "transfer"):
        with pytest.raises(KdError, match=message):
            create("ft", phase=phase).prepare(Shapes(2, student), Shapes(2, teacher))


def test_one_position_works_as_the_paper_has_it() -> None:
    student, teacher = one((4, 3, 1, 1), 1), one((4, 6, 1, 1), 2)
    method = ref.prepared(create("ft", factors="paper"), student, teacher)
    assert ref.terms(method, student, teacher)["ft"].item() > 0


def test_the_recipe_of_two_stages_paraphrases_first_and_then_transfers_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Tensor]] = {"paraphrase": [], "transfer": []}

    def spied(self: Ft, *signals: Any) -> Terms:
        seen[self.knobs.phase].append(self.get_parameter("paraphraser.0.weight").detach().clone())
        return terms(self, *signals)

    terms = Ft.terms
    monkeypatch.setattr(Ft, "terms", spied)
    first = {"label_weight": 0.0, "methods": [{"method": "ft", "phase": "paraphrase", "weight": 1.0}]}
    second = {"label_weight": 1.0, "methods": [{"method": "ft", "phase": "transfer", "weight": 200.0}]}
    plans = [{**tiny.PLAN, "stage": "distill", "epochs": 1, **plan} for plan in (first, second)]
    told = tiny.finish(Session(tiny.recipe(stages=plans), tmp_path))
    learned = {(step.stage, name) for step in tiny.of(StepDone, told) for name in step.terms}
    assert learned == {(0, "ft"), (1, "ft"), (1, "label")}
    assert not torch.equal(seen["paraphrase"][0], seen["paraphrase"][-1])
    assert all(torch.equal(weight, seen["transfer"][0]) for weight in seen["transfer"])
    one_step = (seen["transfer"][0] - seen["paraphrase"][-1]).norm()
    assert one_step < 0.1 * seen["transfer"][0].norm()  # fresh ones would be farther away than they are long

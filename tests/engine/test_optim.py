"""Optimizers as torch means them, and learning rates that depend on the step's number alone."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kd_engine.optim import clear_gradients, make_optimizer, milestones, rate_factor, set_rate, take_step
from kd_engine.recipe import NamedSection
from kd_engine.recipe_knobs import OPTIMIZERS, SCHEDULES


def section(name: str, **settings: Any) -> NamedSection:
    kinds = SCHEDULES if name in SCHEDULES else OPTIMIZERS
    return NamedSection(name=name, **kinds[name](**settings).model_dump())


def rates(schedule: NamedSection, steps: int, per_epoch: int) -> list[float]:
    return [rate_factor(schedule, step, steps, per_epoch) for step in range(steps)]


def test_constant_is_constant() -> None:
    assert rates(section("constant"), 5, 1) == [1.0] * 5


def test_cosine_falls_along_half_a_wave() -> None:
    expected = [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert rates(section("cosine"), 8, 2) == pytest.approx(expected)


def test_cosine_is_torchs_own() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.1)
    ours = []
    for _ in range(10):
        ours.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates(section("cosine", final=0.1), 10, 2) == pytest.approx(ours)


def test_steps_fall_at_their_shares_of_the_training() -> None:
    schedule = section("step", milestones="0.5, 0.75", factor=0.1)
    assert rates(schedule, 8, 1) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_published_steps_of_cifar_are_epochs_150_180_210_of_240() -> None:
    falls = rates(section("step"), 240, 1)
    assert [i for i in range(1, 240) if falls[i] < falls[i - 1]] == [150, 180, 210]


def test_warm_up_climbs_to_one_and_the_schedule_runs_over_the_rest() -> None:
    assert rates(section("constant", warmup_epochs=2), 8, 2) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    warm = rates(section("cosine", warmup_epochs=1), 8, 4)
    assert warm[:4] == [0.25, 0.5, 0.75, 1.0]
    assert warm[4:] == pytest.approx([0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(4)])


def test_half_an_epoch_of_warm_up_is_half_its_steps() -> None:
    assert rates(section("constant", warmup_epochs=0.5), 4, 4) == [0.5, 1, 1, 1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warm_up_longer_than_the_training_only_climbs(name: str) -> None:
    assert rates(section(name, warmup_epochs=100), 4, 2) == [0.25, 0.5, 0.75, 1.0]


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    steps=st.integers(1, 60),
    per_epoch=st.integers(1, 60),
    warmup=st.floats(0, 50),
)
def test_rates_are_shares(name: str, steps: int, per_epoch: int, warmup: float) -> None:
    found = rates(section(name, warmup_epochs=warmup), steps, per_epoch)
    assert all(0 <= rate <= 1 for rate in found)
    falling = found[min(round(warmup * per_epoch), steps - 1) :]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    ("text", "shares"), [("0.5,0.75", [0.5, 0.75]), (" .5 ,", [0.5]), ("", []), ("1e-1", [0.1])]
)
def test_milestones_are_a_list_of_shares(text: str, shares: list[float]) -> None:
    assert milestones(text) == shares


@pytest.mark.parametrize("text", ["half", "0.5;0.7", "0.5 0.7"])
def test_other_milestones_are_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        milestones(text)


# -- optimizers --


def trained(make: Any, steps: int = 4) -> torch.Tensor:
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(5))
    optimizer = make([parameter])
    for step in range(steps):
        set_rate(optimizer, 0.1 / (step + 1))
        optimizer.zero_grad()
        (parameter**4).sum().backward()
        optimizer.step()
    return parameter.detach()


def test_sgd_is_sgd_with_momentum_decay_and_nesterov() -> None:
    """By the formulas: g = grad + wd·w, v = m·v + g, w -= lr·(g + m·v)."""
    torch.manual_seed(0)
    weight, velocity = torch.randn(5), torch.zeros(5)
    for step in range(4):
        gradient = 4 * weight**3 + 0.01 * weight
        velocity = 0.9 * velocity + gradient
        weight = weight - 0.1 / (step + 1) * (gradient + 0.9 * velocity)
    settings = section("sgd", lr=0.5, momentum=0.9, weight_decay=0.01, nesterov=True)
    assert torch.allclose(trained(lambda p: make_optimizer(settings, p)), weight, rtol=1e-5)


def test_adamw_is_adamw() -> None:
    """By the formulas of Loshchilov and Hutter."""
    torch.manual_seed(0)
    weight, mean, square = torch.randn(5), torch.zeros(5), torch.zeros(5)
    for step in range(4):
        lr, gradient = 0.1 / (step + 1), 4 * weight**3
        weight = weight * (1 - lr * 0.3)
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        weight = weight - lr * (mean / (1 - 0.8 ** (step + 1))) / (
            (square / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8
        )
    settings = section("adamw", weight_decay=0.3, beta1=0.8, beta2=0.95)
    assert torch.allclose(trained(lambda p: make_optimizer(settings, p)), weight, rtol=1e-5)


def torchs_step(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("hooked", [True, False])
def test_a_step_without_a_profilers_mark_is_torchs_own_bit_for_bit(
    name: str, hooked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    one = nn.Linear(4, 3)
    other = copy.deepcopy(one)
    inputs = torch.randn(8, 4)
    for module, clear, take in (
        (one, clear_gradients, take_step),
        (other, torch.optim.Optimizer.zero_grad, torchs_step),
    ):
        optimizer = make_optimizer(section(name), module.parameters())
        assert type(optimizer).step.hooked  # else nothing is saved with this version of torch
        if not hooked:
            monkeypatch.setattr(type(optimizer).step, "hooked", False)
        for _ in range(3):
            clear(optimizer)
            assert all(parameter.grad is None for parameter in module.parameters())
            module(inputs).square().sum().backward()
            take(optimizer)
        monkeypatch.undo()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_step_tells_no_profiler() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = make_optimizer(section("sgd"), [parameter])

    def marks(clear: Any, take: Any) -> set[str]:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            clear(optimizer)
            parameter.sum().backward()
            take(optimizer)
        return {event.key for event in seen.key_averages() if "Optimizer" in event.key}

    assert len(marks(torch.optim.Optimizer.zero_grad, torchs_step)) == 2
    assert marks(clear_gradients, take_step) == set()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizers_state_goes_on_bit_for_bit(name: str) -> None:
    torch.manual_seed(0)
    one = nn.Linear(4, 3)
    other = nn.Linear(4, 3)
    ours, theirs = (make_optimizer(section(name), module.parameters()) for module in (one, other))
    inputs = torch.randn(8, 4)

    def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        module(inputs).square().sum().backward()
        optimizer.step()

    for _ in range(3):
        step(one, ours)
    other.load_state_dict(one.state_dict())
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))  # torch would share its tensors
    for module, optimizer in ((one, ours), (other, theirs)):
        step(module, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_every_optimizer_and_schedule_of_the_catalog_works() -> None:
    for name in OPTIMIZERS:
        make_optimizer(section(name), [nn.Parameter(torch.zeros(1))])
    for name in SCHEDULES:
        assert len(rates(section(name), 3, 1)) == 3

"""Feature overhaul: the partial distance against a float64 reference; margins that are measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kd_engine.errors import KdError
from kd_engine.methods import create
from kd_engine.methods.ofd import Margin, partial_distance
from kd_engine.signals import Shapes, Signals
from tests.engine import reference as ref

sides = st.sampled_from([(1, 1), (4, 4), (4, 8), (6, 3), (7, 7)])


def one(shape: tuple[int, ...], seed: int) -> Signals:
    return ref.signals({"preact1": ref.feature(shape, seed)})


def margins(teacher: np.ndarray) -> np.ndarray:
    """Each channel's mean negative value, one channel at a time; 0 where there is none."""
    channels = [channel[channel < 0] for channel in teacher.swapaxes(0, 1)]
    return np.array([below.mean() if below.size else 0.0 for below in channels])[None, :, None, None]


def distance(s: np.ndarray, t: np.ndarray, m: np.ndarray) -> float:
    """As mdistiller writes it: three cases."""
    total = (
        (s - m) ** 2 * ((s > m) & (t <= m))
        + (s - t) ** 2 * ((s > t) & (t > m) & (t <= 0))
        + (s - t) ** 2 * (t > 0)
    )
    return float(total.mean(0).sum())


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(
    batch=st.integers(1, 4),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    sizes=st.tuples(sides, sides),
    shift=st.sampled_from([-1.0, 0.0, 10.0]),
    seed=st.integers(0, 1000),
)
def test_it_equals_the_formula(
    batch: int,
    channels: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    shift: float,
    seed: int,
) -> None:
    student = ref.signals({"preact1": ref.feature((batch, channels[0], *sizes[0]), seed)})
    teacher = ref.signals({"preact1": ref.feature((batch, channels[1], *sizes[1]), seed + 1) + shift})
    method = ref.prepared(create("ofd"), student, teacher, seed)
    assume(batch * math.prod(np.minimum(*sizes)) > 1)  # BatchNorm of one value has a test of its own
    state = ref.arrays(method)
    raw = ref.numpy(teacher.taps["preact1"])
    s, t = ref.to_smaller(ref.numpy(student.taps["preact1"]), raw)
    s = ref.conv(s, state["connectors.preact1.0.weight"])
    s = ref.batch_norm(s, state["connectors.preact1.1.weight"], state["connectors.preact1.1.bias"])
    term = ref.terms(method, student, teacher)["ofd_preact1"]
    assert term.item() == pytest.approx(distance(s, t, margins(raw)), rel=1e-5, abs=1e-10)


def test_earlier_stages_count_half_as_much_each() -> None:
    taps = {f"preact{k}": ref.feature((4, 3, 4, 4), 7) for k in (1, 2, 3)}
    student, teacher = ref.signals(taps), ref.signals({name: tap + 1 for name, tap in taps.items()})
    method = ref.prepared(create("ofd"), student, teacher)
    first = method.get_submodule("connectors.preact1").state_dict()
    for name in taps:
        method.get_submodule(f"connectors.{name}").load_state_dict(first)
    terms = ref.terms(method, student, teacher)
    torch.testing.assert_close(terms["ofd_preact2"], 2 * terms["ofd_preact1"])
    torch.testing.assert_close(terms["ofd_preact3"], 4 * terms["ofd_preact1"])


def test_a_negative_target_asks_only_to_be_below_it() -> None:
    target = torch.tensor([-0.5, -0.5, 2.0]).view(1, 3, 1, 1)
    assert partial_distance(torch.tensor([-9.0, -0.5, 2.0]).view(1, 3, 1, 1), target) == 0
    above = partial_distance(torch.tensor([0.5, -9.0, 1.0]).view(1, 3, 1, 1), target)
    assert above.item() == pytest.approx(1.0 + 1.0)


def test_a_measured_margin_is_the_one_of_batchnorm_for_normal_values() -> None:
    """The reference code's formula: m = μ − σ φ(μ/σ) / Φ(−μ/σ), from a BatchNorm's shift μ and scale σ."""
    mean, deviation = np.array([0.0, 0.7, -1.5]), np.array([1.0, 0.5, 2.0])
    ratio = mean / deviation
    below = np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in ratio])
    density = np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    wanted = mean - deviation * density / below
    margin = Margin(3)
    for seed in range(20):
        normal = ref.numpy(ref.feature((64, 3, 16, 16), seed))
        heard = normal * deviation[:, None, None] + mean[:, None, None]
        margin(torch.from_numpy(heard).float())
    np.testing.assert_allclose(ref.numpy(margin.mean), wanted, rtol=5e-3)


def test_a_margin_is_the_mean_over_all_batches_of_any_size_heard_in_training() -> None:
    batches = [ref.feature((n, 2, 3, 3), n) for n in (4, 1, 7)]
    margin = Margin(2).double()
    for batch in batches:
        margin(batch)
    np.testing.assert_allclose(
        ref.numpy(margin.mean), margins(ref.numpy(torch.cat(batches))).ravel(), rtol=1e-12
    )
    before = margin.mean.clone()
    margin.eval()
    assert torch.equal(margin(batches[0] - 5).ravel(), before)
    again = Margin(2).double()
    again.load_state_dict(margin.state_dict())
    assert torch.equal(again.eval()(batches[0]), margin(batches[0]))


def test_a_channel_that_is_never_negative_has_margin_zero() -> None:
    margin = Margin(2)
    assert torch.equal(margin(torch.ones(2, 2, 3, 3)).ravel(), torch.zeros(2))
    half = torch.ones(2, 2, 3, 3)
    half[:, 1] = -2
    assert torch.equal(margin(half).ravel(), torch.tensor([0.0, -2.0]))


def test_hearing_the_same_batch_again_changes_no_bit() -> None:
    student, teacher = one((4, 3, 4, 4), 1), one((4, 5, 4, 4), 2)
    method = ref.prepared(create("ofd"), student, teacher)
    first = ref.terms(method, student, teacher)
    assert first == ref.terms(method, student, teacher)


def test_one_image_of_one_position_is_normalised_as_in_use() -> None:
    student, teacher = one((1, 3, 1, 1), 1), one((1, 5, 1, 1), 2)
    method = ref.prepared(create("ofd"), student, teacher)
    before = {name: value.clone() for name, value in method.get_submodule("connectors").state_dict().items()}
    assert ref.terms(method, student, teacher)["ofd_preact1"].isfinite()
    after = method.get_submodule("connectors").state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_models_without_taps_before_the_activation_are_refused() -> None:
    with pytest.raises(KdError, match=r"preact1, preact2.*stage1.*'kd'"):
        create("ofd").prepare(one((4, 3, 4, 4), 1).shapes(), Shapes(2, {"stage1": (3, 4, 4)}))

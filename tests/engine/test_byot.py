"""Be your own teacher: heads against a float64 reference, what is detached, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.methods import Method, Terms, create
from kd_engine.methods.byot import Byot, bottleneck, partial_distance
from kd_engine.signals import Shapes, Signals
from kd_engine.tasks import UNLABELLED
from tests.engine.toy_logits import draw, draw_labels, kl, log_softmax, softmax

WIDTH, CLASSES = 8, 5


def student(seed: int = 0, samples: int = 4) -> Signals:
    maps = {"stage1": (4, 8, 8), "stage2": (6, 4, 4), "stage3": (8, 2, 2)}
    taps = {
        name: draw((samples, *shape), seed + k, 1.0).float() for k, (name, shape) in enumerate(maps.items())
    }
    taps["embedding"] = draw((samples, WIDTH), seed + 8, 1.0).float()
    taps["stem"] = draw((samples, 4, 8, 8), seed + 9).float()
    return Signals(draw((samples, CLASSES), seed + 10).float(), taps)


def ready(signals: Signals, **knobs: object) -> Byot:
    torch.manual_seed(0)
    method: Method = create("byot", **knobs)
    method.prepare(signals.shapes(), signals.shapes())
    assert isinstance(method, Byot)
    return method


def run(method: Method, signals: Signals, target: Tensor) -> Terms:
    return method(signals, signals, target)


def convolution(x: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    """Kernel as large as the stride, no padding: each patch is seen once."""
    weight = conv.weight.detach().double().numpy()
    out, _, kh, kw = weight.shape
    rows, columns = x.shape[2] // kh, x.shape[3] // kw
    made = np.zeros((len(x), out, rows, columns))
    for i in range(rows):
        for j in range(columns):
            patch = x[:, :, i * kh : (i + 1) * kh, j * kw : (j + 1) * kw]
            made[:, :, i, j] = np.einsum("ncij,ocij->no", patch, weight)
    return made


def head(x: np.ndarray, parts: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """A head in training, as it starts: features and logits. BatchNorm has weight 1, bias 0, eps 1e-5."""
    body, linear = list(parts.children())
    for layer in body.children():
        if isinstance(layer, nn.Conv2d):
            x = convolution(x, layer)
        elif isinstance(layer, nn.BatchNorm2d):
            mean, variance = (f(x, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.var))
            x = (x - mean) / np.sqrt(variance + 1e-5)
        else:
            x = np.maximum(x, 0)
    features = x.mean((2, 3))
    weight, bias = (p.detach().double().numpy() for p in linear.parameters())
    return features, features @ weight.T + bias


def reference(
    method: Byot, signals: Signals, target: np.ndarray, share: float, temperature: float, hint: float
) -> dict[str, float]:
    deepest = signals.logits.double().numpy()
    goal = signals.taps["embedding"].double().numpy()
    known = target != UNLABELLED
    totals = dict.fromkeys(("byot_label", "byot_soft", "byot_hint"), 0.0)
    for stage in ("stage1", "stage2"):
        features, logits = head(signals.taps[stage].double().numpy(), method.heads[stage])
        right = -log_softmax(logits)[np.arange(len(target)), target][known]
        totals["byot_label"] += (1 - share) * (right.mean() if known.any() else 0.0)
        p, q = (softmax(z / temperature) for z in (deepest, logits))
        totals["byot_soft"] += share * temperature**2 * kl(p, q).mean()
        matters = (features > 0) | (goal > 0)
        totals["byot_hint"] += hint * ((features - goal) ** 2 * matters).sum(1).mean()
    return totals


@settings(max_examples=10, derandomize=True, deadline=None, database=None)
@given(
    samples=st.integers(2, 5),
    share=st.floats(0, 1),
    temperature=st.floats(1, 10),
    seed=st.integers(0, 100),
)
def test_it_equals_the_formula(samples: int, share: float, temperature: float, seed: int) -> None:
    signals = student(seed, samples)
    target = draw_labels(samples, CLASSES, seed)
    target[0] = UNLABELLED if seed % 2 else target[0]
    method = ready(signals, soft_share=share, temperature=temperature, hint_weight=0.01)
    expected = reference(method, signals, target.numpy(), share, temperature, 0.01)
    terms = run(method, signals, target)
    assert list(terms) == list(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=2e-5, abs=1e-6 * temperature**2)


def test_it_has_a_head_for_each_stage_but_the_last_and_reads_the_student_only() -> None:
    signals = student()
    method = ready(signals)
    shapes = signals.shapes()
    assert list(method.heads) == ["stage1", "stage2"]
    assert method.student_taps(shapes, shapes) == ("stage1", "stage2", "embedding")
    assert method.teacher_taps(shapes, shapes) == ()
    assert not method.needs_teacher
    target = draw_labels(4, CLASSES, 1)
    other = method(signals, Signals(draw((4, CLASSES), 99).float()), target)
    assert run(method, signals, target) == other


def test_the_stages_learn_from_the_last_layer_and_not_the_other_way_round() -> None:
    signals = student()
    for tensor in (signals.logits, *signals.taps.values()):
        tensor.requires_grad_()
    method = ready(signals, hint_weight=1.0)
    torch.stack(list(run(method, signals, draw_labels(4, CLASSES, 2)).values())).sum().backward()
    for stage in ("stage1", "stage2"):
        grad = signals.taps[stage].grad
        assert grad is not None
        assert grad.any()
    assert signals.logits.grad is None
    assert signals.taps["embedding"].grad is None
    assert all(p.grad is not None and p.grad.any() for p in method.heads["stage1"].parameters())


def test_a_negative_feature_need_not_equal_a_negative_goal() -> None:
    features, goal = torch.tensor([[0.0, -2.0, 1.0]]), torch.tensor([[-1.0, 3.0, 1.5]])
    assert partial_distance(features, goal).item() == pytest.approx(25 + 0.25)


def test_without_a_label_the_heads_learn_from_the_last_layer_alone() -> None:
    signals = student()
    method = ready(signals)
    none = run(method, signals, torch.full((4,), UNLABELLED))
    labelled = run(method, signals, draw_labels(4, CLASSES, 3))
    assert none["byot_label"].item() == 0
    assert labelled["byot_label"].item() > 0
    assert none["byot_soft"] == labelled["byot_soft"]


def test_the_heads_learn_and_are_saved_with_their_statistics() -> None:
    signals, target = student(), draw_labels(4, CLASSES, 4)
    method = ready(signals)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        total = torch.stack(list(run(method, signals, target).values())).sum()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.9 * losses[0]
    again = ready(signals)
    again.load_state_dict(method.state_dict())
    assert run(again.eval(), signals, target) == run(method.eval(), signals, target)


def test_one_sample_in_the_batch_and_a_last_stage_of_one_position_are_finite() -> None:
    maps = {"stage1": (1, 4, 2, 2), "stage2": (1, 8, 1, 1)}
    taps = {name: draw(shape, 5).float() for name, shape in maps.items()}
    signals = Signals(draw((1, 5), 6).float(), {**taps, "embedding": draw((1, 8), 7).float()})
    assert all(term.isfinite() for term in run(ready(signals), signals, torch.tensor([1])).values())


@pytest.mark.parametrize(
    ("stage", "last", "size"),
    [
        ((4, 32, 32), (8, 4, 4), (4, 4)),
        ((4, 7, 7), (8, 4, 4), (7, 7)),
        ((4, 9, 6), (8, 4, 2), (4, 2)),
        ((4, 2, 2), (8, 4, 4), (2, 2)),
    ],
)
def test_a_bottleneck_brings_any_map_to_about_the_size_of_the_last(
    stage: tuple[int, int, int], last: tuple[int, int, int], size: tuple[int, int]
) -> None:
    assert bottleneck(stage, last, 8)(torch.zeros(2, *stage)).shape == (2, 8, *size)


@pytest.mark.parametrize(
    "taps",
    [
        {"block1": (17, 8), "block2": (17, 8), "embedding": (8,)},
        {"stage1": (4, 8, 8), "embedding": (8,)},
        {"stage1": (4, 8, 8), "stage2": (8, 4, 4)},
    ],
)
def test_a_student_without_two_stages_of_maps_and_an_embedding_is_refused(
    taps: dict[str, tuple[int, ...]],
) -> None:
    with pytest.raises(KdError, match=f"two stages that are maps.*has {', '.join(taps)}"):
        create("byot").prepare(Shapes(5, taps), Shapes(5, taps))


def test_fp16_features_give_finite_losses_in_float32() -> None:
    signals = student()
    taps = {name: (3000 * tensor).half() for name, tensor in signals.taps.items()}
    half = Signals((1000 * signals.logits).half(), taps)
    for term in run(ready(half), half, draw_labels(4, CLASSES, 8)).values():
        assert term.dtype == torch.float32
        assert term.isfinite()

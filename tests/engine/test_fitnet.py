"""Hints: the loss against a float64 reference, a regressor for every ratio of sizes, the choice of layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.methods import Method, create
from kd_engine.methods._regressors import regressor
from kd_engine.signals import Shapes, Signals
from kd_engine.tasks import UNLABELLED


def feature(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def signals(**taps: Tensor) -> Signals:
    return Signals(torch.zeros(len(next(iter(taps.values()))), 2), taps)


def three_stages(channels: int, seed: int) -> Signals:
    return signals(**{f"stage{k}": feature((4, channels * k, 16 >> k, 16 >> k), seed + k) for k in (1, 2, 3)})


def fitnet(**knobs: object) -> Method:
    torch.manual_seed(0)
    return create("fitnet", **knobs)


def chosen(student: Signals, teacher: Signals, **knobs: object) -> tuple[str, str]:
    method = fitnet(**knobs)
    shapes = student.shapes(), teacher.shapes()
    (ours,), (theirs,) = method.student_taps(*shapes), method.teacher_taps(*shapes)
    return ours, theirs


def test_it_equals_the_formula_with_a_1x1_convolution_batchnorm_and_relu() -> None:
    student, teacher = feature((4, 3, 5, 5), 1), feature((4, 6, 5, 5), 2)
    method = fitnet()
    term = method(signals(stage1=student), signals(stage1=teacher), torch.zeros(4))["fitnet"]
    weight = method.state_dict()["regressor.0.weight"].double().numpy()[:, :, 0, 0]
    r = np.einsum("oc,nchw->nohw", weight, student.double().numpy())
    r = (r - r.mean((0, 2, 3), keepdims=True)) / np.sqrt(r.var((0, 2, 3), keepdims=True) + 1e-5)
    expected = ((np.maximum(r, 0) - teacher.double().numpy()) ** 2).mean()
    assert term.item() == pytest.approx(expected, rel=1e-5)


def test_it_is_zero_when_the_regressor_gives_the_teachers_map() -> None:
    student = feature((4, 3, 4, 4), 1)
    method = fitnet()
    method.prepare(signals(stage1=student).shapes(), signals(stage1=feature((4, 5, 4, 4), 2)).shapes())
    with torch.no_grad():
        answer = method.get_submodule("regressor")(student)
    assert method(signals(stage1=student), signals(stage1=answer), torch.zeros(4))["fitnet"].item() == 0.0


@pytest.mark.parametrize(
    ("size", "target", "first", "kernel"),
    [
        (8, 8, nn.Conv2d, (1, 1)),
        (16, 8, nn.Conv2d, (3, 3)),
        (8, 16, nn.ConvTranspose2d, (4, 4)),
        (32, 8, nn.AdaptiveAvgPool2d, (1, 1)),
        (12, 8, nn.AdaptiveAvgPool2d, (1, 1)),
        (4, 16, nn.Upsample, (1, 1)),
        (8, 12, nn.Upsample, (1, 1)),
    ],
)
def test_every_ratio_of_sizes_has_a_regressor(
    size: int, target: int, first: type[nn.Module], kernel: tuple[int, int]
) -> None:
    net = regressor((3, size, size), (5, target, target))
    assert isinstance(net[0], first)
    assert next(part.kernel_size for part in net if hasattr(part, "kernel_size")) == kernel
    assert net(feature((2, 3, size, size), 1)).shape == (2, 5, target, target)
    assert net(feature((2, 3, size, size), 1)).min() == 0


def test_maps_that_are_not_square_are_fitted_too() -> None:
    for student, teacher in (((3, 8, 4), (5, 4, 8)), ((3, 8, 6), (5, 4, 3)), ((3, 4, 6), (5, 4, 9))):
        assert regressor(student, teacher)(feature((2, *student), 1)).shape[1:] == teacher


def test_tokens_are_regressed_without_relu_because_they_have_both_signs() -> None:
    student, teacher = feature((4, 17, 8), 1), feature((4, 17, 12), 2)
    method = fitnet()
    term = method(signals(block1=student), signals(block1=teacher), torch.zeros(4))["fitnet"]
    weight = method.state_dict()["regressor.0.weight"].double().numpy()[:, :, 0, 0]
    r = student.double().numpy() @ weight.T
    r = (r - r.mean((0, 1))) / np.sqrt(r.var((0, 1)) + 1e-5)
    assert term.item() == pytest.approx(((r - teacher.double().numpy()) ** 2).mean(), rel=1e-5)


def test_auto_is_the_middle_stage_and_pairs_count_from_the_last() -> None:
    three, four = three_stages(2, 1), three_stages(4, 2)
    assert chosen(three, four) == ("stage2", "stage2")
    deeper = Signals(four.logits, {**four.taps, "stage4": feature((4, 16, 2, 2), 3)})
    assert chosen(deeper, deeper) == ("stage2", "stage2")
    assert chosen(three, deeper) == ("stage2", "stage3")
    assert chosen(three, deeper, hint="stage3") == ("stage3", "stage4")
    blocks = {f"block{k}": feature((4, 5, 8), k) for k in range(1, 7)}
    assert chosen(signals(**blocks), signals(**blocks)) == ("block3", "block3")


def test_a_tap_without_number_is_paired_with_its_namesake() -> None:
    both = Signals(torch.zeros(4, 2), {**three_stages(2, 1).taps, "stem": feature((4, 2, 8, 8), 1)})
    assert chosen(both, both, hint="stem") == ("stem", "stem")


@pytest.mark.parametrize(
    ("student", "teacher", "hint", "message"),
    [
        ({"stage1": (3, 8, 8)}, {"block1": (17, 8)}, "auto", "no common taps.*stage1.*block1.*'kd'"),
        ({"stage1": (3, 8, 8)}, {"stage1": (3, 8, 8)}, "stage3", "no tap 'stage3'.*did you mean 'stage1'"),
        ({"stage1": (3, 8, 8)}, {"block1": (17, 8)}, "stage1", "'stage1' has no partner"),
        ({"block1": (17, 8)}, {"block1": (65, 8)}, "auto", "numbers of tokens differ"),
        ({"embedding": (8,)}, {"embedding": (8,)}, "embedding", "two maps"),
        ({"stage1": (3, 8, 8)}, {"stage1": (64,)}, "auto", "two maps"),
        ({"stage1": (3, 2, 2)}, {"stage1": (3, 1, 1)}, "auto", "more than one position"),
    ],
)
def test_what_cannot_be_a_hint_is_refused_with_the_reason(
    student: dict[str, tuple[int, ...]], teacher: dict[str, tuple[int, ...]], hint: str, message: str
) -> None:
    with pytest.raises(KdError, match=message):
        fitnet(hint=hint).prepare(Shapes(2, student), Shapes(2, teacher))


def test_it_learns_and_a_saved_regressor_goes_on_where_it_was() -> None:
    student, teacher = three_stages(2, 1), three_stages(4, 2)
    method = fitnet()
    method.prepare(student.shapes(), teacher.shapes())
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = method(student, teacher, torch.zeros(4))["fitnet"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    again = create("fitnet")
    again.prepare(student.shapes(), teacher.shapes())
    again.load_state_dict(method.state_dict())
    term = again(student, teacher, torch.zeros(4))["fitnet"]
    assert term == method(student, teacher, torch.zeros(4))["fitnet"]
    assert term.item() < losses[-1]


def test_fp16_features_go_through_a_float32_regressor() -> None:
    student = signals(stage1=feature((4, 3, 4, 4), 1).half())
    teacher = signals(stage1=(1000 * feature((4, 3, 4, 4), 2)).half())
    term = fitnet()(student, teacher, torch.zeros(4))["fitnet"]
    assert term.dtype == torch.float32
    assert term.isfinite()


# ---- feature fusion


def fused(student: Signals, teacher: Signals, **knobs: object) -> Method:
    method = fitnet(fusion="concat", **knobs)
    method.prepare(student.shapes(), teacher.shapes())
    return method.double()


def pair_of_maps() -> tuple[Signals, Signals, Tensor]:
    student, teacher = (
        Signals(feature((6, 4), seed).double(), {"stage1": feature(shape, seed).double()})
        for seed, shape in ((1, (6, 3, 5, 5)), (2, (6, 4, 5, 5)))
    )
    return student, teacher, torch.tensor([0, 3, UNLABELLED, 1, UNLABELLED, 2])


def normalised(f: np.ndarray) -> np.ndarray:
    return (f - f.mean((0, 2, 3), keepdims=True)) / np.sqrt(f.var((0, 2, 3), keepdims=True) + 1e-5)


def test_fusion_equals_its_formula_with_labels_and_where_they_are_withheld() -> None:
    student, teacher, target = pair_of_maps()
    method = fused(student, teacher, fusion_weight=0.5)
    state = {name: tensor.numpy() for name, tensor in method.state_dict().items()}
    f_s, f_t = (signals.taps["stage1"].numpy() for signals in (student, teacher))
    weight = state["regressor.0.weight"][:, :, 0, 0]
    answer = np.maximum(normalised(np.einsum("oc,nchw->nohw", weight, f_s)), 0)
    both = np.concatenate([answer, f_t], axis=1)
    z = np.maximum(normalised(np.einsum("oc,nchw->nohw", state["fusion.0.weight"][:, :, 0, 0], both)), 0)
    logits = z.mean((2, 3)) @ state["classifier.0.weight"].T + state["classifier.0.bias"]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    odds = np.exp(teacher.logits.numpy())
    wanted = [
        -log_p[n, label] if label != UNLABELLED else -(odds[n] / odds[n].sum() * log_p[n]).sum()
        for n, label in enumerate(target.tolist())
    ]
    terms = method(student, teacher, target)
    assert terms["fitnet"].item() == pytest.approx(((answer - z) ** 2).mean(), rel=1e-6)
    assert terms["fitnet_fusion"].item() == pytest.approx(0.5 * np.mean(wanted), rel=1e-6)


@pytest.mark.parametrize(
    ("term", "parts", "student_learns"),
    [("fitnet", {"regressor"}, True), ("fitnet_fusion", {"fusion", "classifier"}, False)],
)
def test_the_hint_moves_the_student_and_the_class_loss_the_fusion_and_neither_the_other(
    term: str, parts: set[str], student_learns: bool
) -> None:
    student, teacher, target = pair_of_maps()
    leaves = [tensor.requires_grad_() for s in (student, teacher) for tensor in (s.taps["stage1"], s.logits)]
    method = fused(student, teacher)
    method(student, teacher, target)[term].backward()
    assert {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None} == parts
    assert [leaf.grad is not None for leaf in leaves] == [student_learns, False, False, False]


def test_a_fused_hint_is_not_learned_away_by_a_constant_map_or_answer() -> None:
    student, teacher, target = pair_of_maps()
    method = fused(student, teacher)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        terms = method(student, teacher, target)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        answer = method.get_submodule("regressor")(student.taps["stage1"])
        z = method.get_submodule("fusion")(torch.cat([answer, teacher.taps["stage1"]], dim=1))
    spread = z.var((0, 2, 3), correction=0)
    assert spread.min() > 0.05
    dead = Signals(student.logits, {"stage1": torch.zeros_like(student.taps["stage1"])})
    assert method(dead, teacher, target)["fitnet"] > 0.05


def test_fused_tokens_have_both_signs_and_a_batch_without_labels_is_fine() -> None:
    student, teacher = (
        Signals(feature((4, 3), seed).double(), {"block1": feature((4, 5, width), seed).double()})
        for seed, width in ((1, 6), (2, 8))
    )
    method = fused(student, teacher)
    terms = method(student, teacher, torch.full((4,), UNLABELLED))
    assert all(term.isfinite() for term in terms.values())
    assert not any(isinstance(part, nn.ReLU) for part in method.get_submodule("fusion").modules())


def test_fusion_of_other_classes_is_refused() -> None:
    shapes = [Shapes(classes, {"stage1": (3, 4, 4)}) for classes in (2, 5)]
    with pytest.raises(KdError, match="student has 2, the teacher 5; set fusion to 'none'"):
        fitnet(fusion="concat").prepare(*shapes)

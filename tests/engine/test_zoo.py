"""The networks of the distillation papers: the forward passes of the common reference code, written out again
with plain functions over a state dict, and what stands before the last activations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine import weights
from kd_engine.errors import KdError
from kd_engine.methods import pair_taps
from kd_engine.models import create, taps_of
from kd_engine.probes import Probe
from kd_engine.registry import discover
from kd_engine.taps import Reader, measure

ZOO = ("vgg8", "vgg13", "mobilenetv2", "shufflenetv1", "shufflenetv2", "resnet50-cifar")
ACTIVATED = (
    "resnet8",
    "resnet20",
    "wrn_16_1",
    "cnn",
    "vgg8",
    "shufflenetv1",
    "shufflenetv2",
    "resnet50-cifar",
)


class Parts:
    """A state dict's layers as functions; remembers which tensors were used."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state
        self.used: set[str] = set()

    def get(self, name: str) -> Tensor:
        self.used.add(name)
        return self.state[name]

    def has(self, name: str) -> bool:
        return f"{name}.weight" in self.state

    def conv(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.get(f"{name}.weight")
        bias = self.get(f"{name}.bias") if f"{name}.bias" in self.state else None
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, 1, groups)

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (
            self.get(f"{name}.{part}") for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.get(f"{name}.weight"), self.get(f"{name}.bias"))


def vgg(p: Parts, x: Tensor) -> Tensor:
    height = x.shape[2]
    for block in range(5):
        layer = 0
        while p.has(f"block{block}.{layer}"):
            x = F.relu(p.norm(f"block{block}.{layer + 1}", p.conv(f"block{block}.{layer}", x)))
            layer += 3
        if block < 3 or (block == 3 and height == 64):
            x = F.max_pool2d(x, 2)
    return p.linear("classifier", F.adaptive_avg_pool2d(x, 1).flatten(1))


def mobilenetv2(p: Parts, x: Tensor) -> Tensor:
    x = F.relu(p.norm("conv1.1", p.conv("conv1.0", x, 2)))
    for group, (depth, first) in enumerate([(1, 1), (2, 1), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1)]):
        for block in range(depth):
            at, stride = f"blocks.{group}.{block}.conv", first if block == 0 else 1
            y = F.relu(p.norm(f"{at}.1", p.conv(f"{at}.0", x)))
            y = F.relu(p.norm(f"{at}.4", p.conv(f"{at}.3", y, stride, groups=y.shape[1])))
            y = p.norm(f"{at}.7", p.conv(f"{at}.6", y))
            x = x + y if stride == 1 and x.shape[1] == y.shape[1] else y
    x = F.relu(p.norm("conv2.1", p.conv("conv2.0", x)))
    return p.linear("classifier.0", F.avg_pool2d(x, 2).flatten(1))


def shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).permute(0, 2, 1, 3, 4).reshape(n, c, h, w)


def shufflenetv1(p: Parts, x: Tensor) -> Tensor:
    x = F.relu(p.norm("bn1", p.conv("conv1", x)))
    for stage, depth in enumerate((4, 8, 4), 1):
        for block in range(depth):
            at, stride = f"layer{stage}.{block}", 2 if block == 0 else 1
            groups = 1 if x.shape[1] == 24 else 3
            y = shuffle(F.relu(p.norm(f"{at}.bn1", p.conv(f"{at}.conv1", x, groups=groups))), groups)
            y = F.relu(p.norm(f"{at}.bn2", p.conv(f"{at}.conv2", y, stride, groups=y.shape[1])))
            y = p.norm(f"{at}.bn3", p.conv(f"{at}.conv3", y, groups=3))
            x = F.relu(torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1) if stride == 2 else y + x)
    return p.linear("linear", F.avg_pool2d(x, 4).flatten(1))


def shufflenetv2(p: Parts, x: Tensor) -> Tensor:
    x = F.relu(p.norm("bn1", p.conv("conv1", x)))
    for stage, depth in enumerate((3, 7, 3), 1):
        at = f"layer{stage}.0"
        left = p.norm(f"{at}.bn1", p.conv(f"{at}.conv1", x, 2, groups=x.shape[1]))
        left = F.relu(p.norm(f"{at}.bn2", p.conv(f"{at}.conv2", left)))
        right = F.relu(p.norm(f"{at}.bn3", p.conv(f"{at}.conv3", x)))
        right = p.norm(f"{at}.bn4", p.conv(f"{at}.conv4", right, 2, groups=right.shape[1]))
        right = F.relu(p.norm(f"{at}.bn5", p.conv(f"{at}.conv5", right)))
        x = shuffle(torch.cat([left, right], 1), 2)
        for block in range(1, depth + 1):
            at, half = f"layer{stage}.{block}", x.shape[1] // 2
            y = F.relu(p.norm(f"{at}.bn1", p.conv(f"{at}.conv1", x[:, half:])))
            y = p.norm(f"{at}.bn2", p.conv(f"{at}.conv2", y, groups=half))
            y = F.relu(p.norm(f"{at}.bn3", p.conv(f"{at}.conv3", y)))
            x = shuffle(torch.cat([x[:, :half], y], 1), 2)
    x = F.relu(p.norm("bn2", p.conv("conv2", x)))
    return p.linear("linear", F.avg_pool2d(x, 4).flatten(1))


def resnet50(p: Parts, x: Tensor) -> Tensor:
    x = F.relu(p.norm("bn1", p.conv("conv1", x)))
    for stage, depth in enumerate((3, 4, 6, 3), 1):
        for block in range(depth):
            at, stride = f"layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1
            y = F.relu(p.norm(f"{at}.bn1", p.conv(f"{at}.conv1", x)))
            y = F.relu(p.norm(f"{at}.bn2", p.conv(f"{at}.conv2", y, stride)))
            y = p.norm(f"{at}.bn3", p.conv(f"{at}.conv3", y))
            if p.has(f"{at}.shortcut.0"):
                x = p.norm(f"{at}.shortcut.1", p.conv(f"{at}.shortcut.0", x, stride))
            x = F.relu(y + x)
    return p.linear("linear", F.adaptive_avg_pool2d(x, 1).flatten(1))


REFERENCES: dict[str, Callable[[Parts, Tensor], Tensor]] = {
    "vgg8": vgg,
    "vgg13": vgg,
    "mobilenetv2": mobilenetv2,
    "shufflenetv1": shufflenetv1,
    "shufflenetv2": shufflenetv2,
    "resnet50-cifar": resnet50,
}


def trained(model: str, size: int = 32) -> nn.Module:
    """In eval mode, with norms that shift and scale as after training."""
    torch.manual_seed(0)
    module = create(model, 10, size).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low, high in (
                (part.running_mean, -0.3, 0.3),
                (part.running_var, 0.5, 1.5),
                (part.weight, 0.7, 1.3),
                (part.bias, -0.3, 0.3),
            ):
                assert tensor is not None
                nn.init.uniform_(tensor, low, high)
    return module


def batch(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("model", ZOO)
@torch.no_grad()
def test_names_and_forward_are_those_of_the_reference(model: str) -> None:
    module, x = trained(model), batch()
    state = {name: t for name, t in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    parts = Parts(state)
    torch.testing.assert_close(module(x), REFERENCES[model](parts, x), rtol=1e-4, atol=1e-4)
    assert parts.used == state.keys()


@torch.no_grad()
def test_vgg_pools_a_fourth_time_at_64_pixels_as_in_the_reference() -> None:
    module, x = trained("vgg8", 64), batch(64)
    torch.testing.assert_close(module(x), vgg(Parts(module.state_dict()), x), rtol=1e-4, atol=1e-4)
    assert measure(module, taps_of("vgg8", module), 64).taps["stage4"] == (512, 4, 4)
    assert measure(module, taps_of("vgg8", module), 63).taps["stage4"] == (512, 7, 7)


@pytest.mark.parametrize("model", ZOO)
def test_checkpoints_of_the_reference_code_load(model: str, tmp_path: Path) -> None:
    original, other = trained(model), create(model, 10)
    saved = {f"module.{name}": tensor for name, tensor in original.state_dict().items()}
    content = {"epoch": 240, "model": saved, "best_acc": torch.tensor(74.3), "optimizer": {"state": {}}}
    torch.save(content, tmp_path / f"{model}_best.pth")
    weights.load(other, model, str(tmp_path / f"{model}_best.pth"), tmp_path)
    assert all(torch.equal(t, other.state_dict()[name]) for name, t in original.state_dict().items())


def test_a_bottleneck_resnet_loads_with_the_layer_names_of_torchvision(tmp_path: Path) -> None:
    original, other = trained("resnet50-cifar"), create("resnet50-cifar", 10)
    renamed = {
        name.replace("shortcut.", "downsample.").replace("linear.", "fc."): tensor
        for name, tensor in original.state_dict().items()
    }
    weights.fit(other, renamed, "renamed")
    assert torch.equal(other.linear.weight, original.linear.weight)


@pytest.mark.parametrize("model", ZOO)
@pytest.mark.parametrize("size", [8, 28, 64])
@torch.no_grad()
def test_other_sizes_work(model: str, size: int) -> None:
    with torch.device("meta"):
        module = create(model, 3, size).eval()
    shapes = measure(module, taps_of(model, module), size)
    heights = [shape[1] for name, shape in shapes.taps.items() if name.startswith("stage")]
    assert heights == sorted(heights, reverse=True)
    assert min(heights) >= 1
    assert shapes.classes == 3


def test_images_too_small_for_poolings_are_refused_with_a_size_that_works() -> None:
    with pytest.raises(KdError, match=r"vgg8 cannot take 7×7 images.*halves.*It takes 8×8 and more"):
        create("vgg8", 10, 7)


@pytest.mark.parametrize("model", ACTIVATED)
@torch.no_grad()
def test_a_stage_is_its_last_activation_of_what_stands_before(model: str) -> None:
    module = trained(model)
    taps = taps_of(model, module)
    with Reader(module, taps.values()) as reader:
        seen = reader(batch()).taps
    stages = [name for name in seen if name.startswith("stage")]
    assert len(stages) >= 3
    for stage in stages:
        before = seen[stage.replace("stage", "preact")]
        assert before.min() < 0
        assert torch.equal(before.relu(), seen[stage])


@torch.no_grad()
def test_linear_bottlenecks_are_the_same_before_and_after() -> None:
    module = trained("mobilenetv2")
    with Reader(module, taps_of("mobilenetv2", module).values()) as reader:
        seen = reader(batch()).taps
    for k in range(1, 5):
        assert torch.equal(seen[f"preact{k}"], seen[f"stage{k}"])
        assert seen[f"stage{k}"].min() < 0


@pytest.mark.parametrize("model", ["resnet8", "shufflenetv2", "mobilenetv2"])
def test_gradients_reach_what_stands_before_an_activation(model: str) -> None:
    module = trained(model)
    taps = [tap for name, tap in taps_of(model, module).items() if name.startswith("preact")]
    with Reader(module, taps) as reader:
        signals = reader(batch())
    slopes = torch.autograd.grad(signals.logits.sum(), list(signals.taps.values()))
    assert all(slope.abs().sum() > 0 for slope in slopes)


def test_series_are_paired_apart_from_each_other() -> None:
    shapes = []
    for model in ("vgg8", "resnet8"):
        module = create(model, 10)
        shapes.append(measure(module, taps_of(model, module), 32))
    stages = (("stage2", "stage1"), ("stage3", "stage2"), ("stage4", "stage3"))
    assert pair_taps(*shapes) == stages
    befores = tuple(tuple(name.replace("stage", "preact") for name in pair) for pair in stages)
    assert pair_taps(*shapes, "preact") == befores


@pytest.mark.parametrize("model", ["resnet8", "vgg8", "vit-tiny"])
def test_nobody_is_offered_a_look_before_an_activation_or_at_values(model: str) -> None:
    taps = taps_of(model, create(model, 10))
    assert any(name.startswith(("preact", "value.")) for name in taps)
    probes: list[type[Probe]] = list(discover("probes").plugins.values())  # type: ignore[arg-type]
    offered = [name for probe in probes for name in probe.taps(taps)]
    assert offered
    assert not any(name.startswith(("preact", "value.")) for name in offered)

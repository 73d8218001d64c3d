"""Models from other packages: taps found by one dry forward that leaves no trace, and timm's by name."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd_engine import catalog, registry, weights
from kd_engine._torchvision import import_torchvision
from kd_engine.check import check
from kd_engine.errors import KdError, WeightsError
from kd_engine.models import create, family_of, taps_of
from kd_engine.models._outside import discover
from kd_engine.models.timm import TimmFamily
from kd_engine.probes import places, words
from kd_engine.taps import Reader, Tap, measure
from tests.engine import tiny

NET, TRANSFORMER = "timm:resnet10t", "timm:vit_tiny_patch16_224"


class AverageByHand(nn.Module):
    """Pooling by no known name."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class Chain(nn.Sequential):
    """Maps at 16, 16, 8 and 4 pixels for 32; the last convolution works on a pooled map."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 4, 3, 2, 1)
        self.entry_norm = nn.BatchNorm2d(4)
        self.first = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 5, 1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(5, 6, 3, 2, 1), nn.Conv2d(6, 6, 1), nn.ReLU())
        self.shrink = nn.AvgPool2d(2)
        self.third = nn.Sequential(nn.Conv2d(6, 7, 1), nn.Conv2d(7, 7, 1), nn.ReLU())
        self.average = AverageByHand()
        self.neck = nn.Conv2d(7, 9, 1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(9, 2)


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.norm(x))


class Tokens(nn.Module):
    """Three steps over 4×4 patches, after a convolution that is no stage."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, 8)
        self.before = nn.LayerNorm(6)
        self.steps = nn.ModuleList(Step() for _ in range(3))
        self.after = nn.LayerNorm(6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(self.patches(x).flatten(2).transpose(1, 2))
        for step in self.steps:
            x = step(x)
        return self.head(self.after(x).mean(1))


class LastChannels(nn.Module):
    """Maps (N, H, W, C), and inside of the blocks windows of tokens in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.one = Mix(3, 10, 4)
        self.two = Mix(10, 20, 2)
        self.three = Mix(20, 30, 2)
        self.head = nn.Linear(30, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.three(self.two(self.one(x.permute(0, 2, 3, 1))))
        return self.head(x.mean((1, 2)))


class Mix(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.mix = nn.Linear(inputs, outputs)
        self.rows = nn.Linear(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(x[:, :: self.stride, :: self.stride])
        return self.rows(x.flatten(0, 1)).view_as(x)


def test_a_stage_is_the_last_block_at_each_resolution_and_ends_before_the_pooling() -> None:
    stages = {"stem": "entry_norm", "stage1": "first", "stage2": "second", "stage3": "third"}
    taps = discover(Chain(), "head", 32)
    assert {tap.name: tap.path for tap in taps} == stages | {"embedding": "head"}
    assert taps[-1] == Tap("embedding", "head", "vector", of="input")


def test_blocks_are_the_outermost_parts_of_one_kind_that_give_tokens() -> None:
    taps = discover(Tokens(), "head", 32)
    blocks = [Tap(f"block{k + 1}", f"steps.{k}", "tokens") for k in range(3)]
    assert list(taps) == [*blocks, Tap("embedding", "head", "vector", of="input")]


def test_maps_with_channels_last_are_stages_and_windows_are_no_blocks() -> None:
    taps = discover(LastChannels(), "head", 32)
    assert [(tap.name, tap.path) for tap in taps] == [
        ("stem", "one"),
        ("stage1", "two"),
        ("stage2", "three"),
        ("embedding", "head"),
    ]
    shapes = measure(LastChannels(), {tap.name: tap for tap in taps}, 32)
    assert shapes.taps["stage2"] == (30, 2, 2)


def test_the_dry_forward_leaves_modes_statistics_and_generators_alone() -> None:
    torch.manual_seed(0)
    module = Chain().train()
    module.first.eval()
    modes = [part.training for part in module.modules()]
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    generator = torch.get_rng_state()
    assert discover(module, "head", 32)
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(part._forward_hooks for part in module.modules())


def test_timm_networks_are_read_at_their_stages_in_words() -> None:
    with torch.device("meta"):
        module = create(NET, 7, 64).eval()
    taps = taps_of(NET, module)
    stages = {f"stage{k}": f"layer{k}" for k in (1, 2, 3, 4)}
    assert {name: tap.path for name, tap in taps.items()} == {"stem": "act1", **stages, "embedding": "fc"}
    shapes = measure(module, taps, 64)
    assert words(taps["stage3"], shapes.taps["stage3"]) == "stage 3, 4×4, 256 channels"
    assert shapes.classes == 7


@pytest.mark.parametrize("size", [32, 64])
def test_timm_transformers_are_built_for_the_size_of_the_data(size: int) -> None:
    torch.manual_seed(0)
    module = create(TRANSFORMER, 7, size).eval()
    taps = taps_of(TRANSFORMER, module)
    assert list(taps) == [*(f"block{k}" for k in range(1, 13)), "embedding"]
    assert places(taps, "map", "tokens")[0] == "block12"
    with torch.no_grad(), Reader(module, taps.values()) as reader:
        signals = reader(torch.randn(2, 3, size, size))
    tokens = (size // 16) ** 2 + 1
    assert signals.taps["block12"].shape == (2, tokens, 192)
    assert torch.equal(module.head(signals.taps["embedding"]), signals.logits)


@pytest.mark.parametrize("model", TimmFamily.names)
def test_what_the_catalog_lists_of_timm_is_there_and_has_stages_or_blocks(model: str) -> None:
    with torch.device("meta"):
        module = create(model, 7, 32).eval()
    shapes = measure(module, taps_of(model, module), 32)
    numbered = [name for name in shapes.taps if name.startswith(("stage", "block"))]
    assert len(numbered) >= 4
    assert shapes.taps["embedding"]


def test_an_unknown_name_of_timm_is_told_with_a_suggestion() -> None:
    with pytest.raises(KdError, match=r"timm has no model 'resnt10t' \(did you mean 'resnet10t'"):
        create("timm:resnt10t", 10)


@pytest.mark.parametrize("model", ["timm:hf-hub:someone/model", "timm:local-dir:/tmp/model", "timm:"])
def test_names_that_would_fetch_a_model_from_elsewhere_belong_to_no_family(model: str) -> None:
    with pytest.raises(KdError, match="no model"):
        create(model, 10)


def test_images_of_a_wrong_size_are_told_with_one_that_works() -> None:
    with pytest.raises(KdError, match=r"timm:inception_v3 cannot take 32×32 images.*It takes 75×75"):
        create("timm:inception_v3", 10, 32)


def test_a_network_with_a_size_of_its_own_takes_only_that() -> None:
    with pytest.raises(KdError, match=r"halonet26t cannot take 32×32 images.*It takes 256×256"):
        create("timm:halonet26t", 10, 32)


def without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def blind(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "timm" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", blind)


def test_without_the_package_the_reason_and_the_way_out_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    without_timm(monkeypatch)
    with pytest.raises(
        KdError, match=r"unavailable: timm is not installed \(pip install kd-studio\[timm\]\)"
    ):
        create(NET, 10)
    (problem,) = check(tiny.document(student={"model": NET}), catalog.build())
    assert problem.path == "student.model"
    assert "pip install kd-studio[timm]" in problem.message


def test_installing_a_package_makes_the_catalog_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry.sysconfig, "get_path", lambda _name: str(tmp_path))
    before = registry.fingerprint()
    assert registry.fingerprint() == before
    (tmp_path / "timm").mkdir()
    assert registry.fingerprint() != before


def hub(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Let timm's hub give a state dict, or fail with an exception; there is no network."""
    import_torchvision()
    from timm.models import _builder

    def fetch(*_args: object, **_more: object) -> dict[str, Tensor]:
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    monkeypatch.setattr(_builder, "load_state_dict_from_hf", fetch)


def test_published_weights_of_timm_load_and_the_head_is_fitted_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    original = create(NET, 1000, 32)
    hub(monkeypatch, original.state_dict())
    same, others = create(NET, 1000, 32), create(NET, 10, 32)
    head = others.fc.weight.clone()
    weights.load(same, NET, "timm", tmp_path)
    weights.load(others, NET, "timm", tmp_path)
    assert all(torch.equal(t, same.state_dict()[name]) for name, t in original.state_dict().items())
    assert torch.equal(others.layer4[0].conv1.weight, original.layer4[0].conv1.weight)
    assert torch.equal(others.fc.weight, head)


def test_published_positions_are_resized_to_the_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    original = create(TRANSFORMER, 1000, 224)
    hub(monkeypatch, original.state_dict())
    small = create(TRANSFORMER, 10, 64)
    weights.load(small, TRANSFORMER, "timm", tmp_path)
    assert small.pos_embed.shape == (1, 17, 192)
    assert torch.equal(small.blocks[3].mlp.fc1.weight, original.blocks[3].mlp.fc1.weight)


def test_without_a_network_it_is_told_where_the_weights_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub(monkeypatch, OSError("no network"))
    with pytest.raises(WeightsError) as told:
        weights.load(create(NET, 10), NET, "timm", tmp_path)
    assert "no network" in str(told.value)
    assert "https://huggingface.co/timm/resnet10t" in str(told.value)


@pytest.mark.parametrize(("model", "word"), [(NET, "torchvision"), ("resnet8", "timm"), ("resnet18", "timm")])
def test_weights_by_the_name_of_another_package_are_refused(model: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"no published weights for {model} by the name of {word}"):
        weights.load(create(model, 10), model, word, tmp_path)


def test_a_recipe_may_ask_for_published_weights_by_name() -> None:
    plugins = catalog.build()
    assert family_of(NET).facts()["published"] == "timm"
    for model, word in ((NET, "timm"), ("resnet18", "torchvision")):
        assert not check(tiny.document(student={"model": model, "weights": word}), plugins)
    (problem,) = check(tiny.document(student={"model": NET, "weights": 3}), plugins)
    assert "run:NAME, timm, torchvision or a file" in problem.message

"""What every architecture promises: it builds, answers, and can be listened to without being changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kd_engine import weights
from kd_engine.models import Architecture, count_parameters, create, family_of, taps_of
from kd_engine.registry import discover
from kd_engine.taps import Reader, measure

SIZE, CLASSES = 32, 5
SMALL = {  # of families with many large networks, a few that stand for all
    "torchvision": ("resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "mnasnet0_5"),
    "timm": ("timm:resnet10t", "timm:mobilenetv3_small_100", "timm:vit_tiny_patch16_224"),
    "vgg": ("vgg8", "vgg11"),
}
DIMENSIONS = {"map": 4, "tokens": 3, "vector": 2, "attention": 4, "values": 4}


def listed() -> list[str]:
    families: list[type[Architecture]] = list(discover("models").plugins.values())  # type: ignore[arg-type]
    there = (family for family in families if family.unavailable() is None)
    return [model for family in there for model in SMALL.get(family.name, family.names)]


def seeded(model: str) -> nn.Module:
    torch.manual_seed(0)
    return create(model, CLASSES, SIZE)


@pytest.fixture(scope="module", params=listed())
def built(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    return request.param, seeded(request.param)


@pytest.fixture(scope="module")
def batch() -> Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def snapshot(module: nn.Module) -> tuple[list[bool], dict[str, Tensor]]:
    modes = [part.training for part in module.modules()]
    return modes, {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unchanged(module: nn.Module, before: tuple[list[bool], dict[str, Tensor]]) -> bool:
    modes, state = snapshot(module)
    return modes == before[0] and all(torch.equal(tensor, before[1][name]) for name, tensor in state.items())


def test_it_answers_and_every_declared_tap_is_heard(built: tuple[str, nn.Module], batch: Tensor) -> None:
    model, module = built
    module.eval()
    taps = taps_of(model, module)
    before = snapshot(module)
    with torch.no_grad():
        plain = module(batch)
        with Reader(module, taps.values()) as reader:
            signals = reader(batch)
    assert plain.shape == (2, CLASSES)
    assert torch.equal(signals.logits, plain)
    assert unchanged(module, before)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    heard = signals.taps | {f"attention.{block}": tensor for block, tensor in signals.attention.items()}
    assert heard.keys() == taps.keys()
    for name, tap in taps.items():
        assert heard[name].dim() == DIMENSIONS[tap.layout]
        assert len(heard[name]) == 2
    numbered = [name.rstrip("0123456789") for name in taps]
    assert {"stage", "block"} & set(numbered)
    assert "embedding" in taps


def test_training_while_being_heard_counts_every_batch_once(
    built: tuple[str, nn.Module], batch: Tensor
) -> None:
    model, _ = built
    heard, plain = seeded(model).train(), seeded(model).train()
    with Reader(heard, taps_of(model, heard).values()) as reader:
        torch.manual_seed(2)  # for dropout
        logits = reader(batch).logits
    torch.manual_seed(2)
    assert torch.equal(plain(batch), logits)
    assert unchanged(heard, snapshot(plain))


def test_measuring_changes_nothing_and_finds_the_shapes_of_a_batch(
    built: tuple[str, nn.Module], batch: Tensor
) -> None:
    model, module = built
    module.train()
    before, generator = snapshot(module), torch.get_rng_state()
    taps = taps_of(model, module)
    shapes = measure(module, taps, SIZE)
    assert unchanged(module, before)
    assert torch.equal(torch.get_rng_state(), generator)
    module.eval()
    with torch.no_grad(), Reader(module, taps.values()) as reader:
        assert reader(batch).shapes() == shapes


def test_the_same_seed_gives_the_same_weights(built: tuple[str, nn.Module]) -> None:
    model, _ = built
    first, second = seeded(model), seeded(model)
    assert unchanged(first, snapshot(second))
    assert not unchanged(create(model, CLASSES, SIZE), snapshot(first))


def test_the_state_dict_survives_a_file(built: tuple[str, nn.Module], tmp_path: Path) -> None:
    model, module = built
    file = tmp_path / "state.safetensors"
    weights.save_state(file, module.state_dict())
    other = create(model, CLASSES, SIZE)
    weights.fit(other, weights.read_state(file), str(file))
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in module.state_dict().items())


def test_it_is_listed_with_its_family_and_has_parameters(built: tuple[str, nn.Module]) -> None:
    model, module = built
    family = family_of(model)
    assert model in family.facts()["models"]
    assert family.title
    assert family.help
    assert count_parameters(module) > 0

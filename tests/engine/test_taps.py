"""Taps: tensors are read by place, and the model notices nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.taps import Reader, Tap, measure


class Small(nn.Module):
    """A convolution with its norm, an activation that works in place, a pooled vector, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.unused = nn.Linear(1, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.relu(self.bn(self.conv(x))))
        return self.head(self.pool(x).flatten(1))


class LastChannels(nn.Module):
    """A network whose maps are (N, H, W, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(x.permute(0, 2, 3, 1)).mean((1, 2)))


@pytest.fixture
def model() -> Small:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture
def batch() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_an_activation_in_place_does_not_change_what_was_read_before_it(model: Small, batch: Tensor) -> None:
    before = model(batch)
    with Reader(model, [Tap("norm", "bn")]) as reader:
        signals = reader(batch)
    assert torch.equal(signals.taps["norm"], model.bn(model.conv(batch)))
    assert signals.taps["norm"].min() < 0
    assert torch.equal(signals.logits, before)


def test_a_vector_is_flat_and_a_map_read_as_a_vector_is_averaged(model: Small, batch: Tensor) -> None:
    taps = [Tap("pooled", "pool", "vector"), Tap("averaged", "relu", "vector"), Tap("map", "relu")]
    with Reader(model, taps) as reader:
        seen = reader(batch).taps
    assert seen["pooled"].shape == (2, 4)
    torch.testing.assert_close(seen["pooled"], seen["map"].mean((2, 3)))
    torch.testing.assert_close(seen["averaged"], seen["pooled"])


def test_an_input_can_be_read_where_no_module_gives_it(model: Small, batch: Tensor) -> None:
    with Reader(model, [Tap("embedding", "head", "vector", of="input")]) as reader:
        signals = reader(batch)
    torch.testing.assert_close(model.head(signals.taps["embedding"]), signals.logits)


def test_maps_with_channels_last_are_turned_and_keep_their_gradients() -> None:
    torch.manual_seed(0)
    model, batch = LastChannels(), torch.randn(2, 3, 4, 5)
    before = model(batch)
    for tap in (Tap("map", "mix", channels_last=True), Tap("map", "mix", of="input", channels_last=True)):
        with Reader(model, [tap]) as reader:
            batch.requires_grad_()
            signals = reader(batch)
        assert signals.taps["map"].shape == (2, 6 if tap.of == "output" else 3, 4, 5)
        assert torch.equal(signals.logits, before)
        (slope,) = torch.autograd.grad(signals.logits.sum(), signals.taps["map"])
        assert slope.abs().sum() > 0


def test_attention_is_kept_by_block_beside_the_tokens_of_that_block(model: Small, batch: Tensor) -> None:
    with Reader(model, [Tap("attention.block1", "conv", "attention"), Tap("block1", "bn")]) as reader:
        signals = reader(batch)
    assert set(signals.attention) == set(signals.taps) == {"block1"}
    assert torch.equal(signals.attention["block1"], model.conv(batch))


def test_the_model_itself_can_be_called_while_a_reader_listens(model: Small, batch: Tensor) -> None:
    with Reader(model, [Tap("map", "conv")]) as reader:
        model(torch.zeros(1, 3, 4, 4))
        signals = reader(batch)
        model(torch.zeros(1, 3, 4, 4))
    assert signals.taps["map"].shape == (2, 4, 8, 8)


def test_a_forward_that_fails_leaves_the_reader_usable(model: Small, batch: Tensor) -> None:
    with Reader(model, [Tap("map", "conv")]) as reader:
        with pytest.raises(RuntimeError):
            reader(torch.zeros(2, 7, 8, 8))
        assert reader(batch).taps["map"].shape == (2, 4, 8, 8)


def test_closing_takes_every_hook_off_and_can_be_repeated(model: Small, batch: Tensor) -> None:
    reader = Reader(model, [Tap("map", "conv"), Tap("embedding", "head", "vector", of="input")])
    reader.close()
    reader.close()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_an_unknown_place_is_told_with_a_suggestion_and_changes_nothing(model: Small) -> None:
    with pytest.raises(KdError, match=r"no part 'covn'.*did you mean 'conv'"):
        Reader(model, [Tap("map", "conv"), Tap("other", "covn")])
    assert not any(part._forward_hooks for part in model.modules())
    assert model.relu.inplace


def test_a_place_that_the_forward_never_reaches_is_told(model: Small, batch: Tensor) -> None:
    with Reader(model, [Tap("lost", "unused")]) as reader, pytest.raises(KdError, match=r"'lost' \(unused\)"):
        reader(batch)


def test_measuring_changes_no_mode_no_statistic_and_no_generator(model: Small) -> None:
    model.train()
    model.bn.eval()  # a mixture must come back as a mixture
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    taps = {"map": Tap("map", "relu"), "embedding": Tap("embedding", "pool", "vector")}
    shapes = measure(model, taps, size=8)
    assert (shapes.classes, dict(shapes.taps)) == (5, {"map": (4, 8, 8), "embedding": (4,)})
    assert model.training
    assert model.dropout.training
    assert not model.bn.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)

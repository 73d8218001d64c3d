"""Wide residual networks `wrn_D_K`: depth D = 6n + 4, K times the channels. Any such D and K builds.

Pre-activation networks have no activation at the end of a stage: the next batch norm and ReLU stand in the
first block of the next stage. The taps read that ReLU, where it is computed anyway, so `stage1` is what
stage 2 takes in. (The mdistiller code runs those batch norms a second time to get at them, which updates
their statistics twice a step.) State-dict names are RepDistiller's.
"""

from __future__ import annotations

import re

from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.models import Architecture, stage_taps
from kd_engine.taps import Tap

PATTERN = re.compile(r"wrn_([1-9]\d{0,3})_([1-9]\d{0,2})")


class WideResNet(nn.Module):
    def __init__(self, blocks: int, widen: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = Stage(blocks, 16, 16 * widen, 1)
        self.block2 = Stage(blocks, 16 * widen, 32 * widen, 2)
        self.block3 = Stage(blocks, 32 * widen, 64 * widen, 2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * widen, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(self.pool(self.relu(self.bn1(x))).flatten(1))
        return logits


class Stage(nn.Module):
    """`blocks` blocks, the first of which changes channels and resolution."""

    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = PreActivationBlock(inputs, outputs, stride)
        self.layer = nn.Sequential(
            first, *(PreActivationBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class PreActivationBlock(nn.Module):
    """Norm, ReLU, convolution, twice. Where the shape changes, the shortcut starts after the first ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs
        self.convShortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu1(self.bn1(x))
        if self.convShortcut is not None:
            x = self.convShortcut(y)
        out: Tensor = x + self.conv2(self.relu2(self.bn2(self.conv1(y))))
        return out


class WideResNetFamily(Architecture):
    name = "wrn"
    title = "Wide ResNet"
    help = "wrn_D_K: depth D = 6n + 4 and K times the channels, e.g. wrn_40_2. Others build too: wrn_28_10."
    source = "Zagoruyko, Komodakis 2016, arXiv:1605.07146"
    names = ("wrn_16_1", "wrn_16_2", "wrn_16_4", "wrn_28_2", "wrn_28_4", "wrn_40_1", "wrn_40_2")
    pattern = PATTERN.pattern

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: object) -> nn.Module:
        match = PATTERN.fullmatch(model)
        assert match is not None
        depth, widen = int(match[1]), int(match[2])
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            lower = max(blocks, 1) * 6 + 4
            raise KdError(
                f"{model}: the depth must be 6n + 4, as in wrn_{lower}_{widen} or wrn_{lower + 6}_{widen}"
            )
        return WideResNet(blocks, widen, classes)

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        """stem: the activation that takes the stem's output in, and so on; stage3: after the last norm and
        ReLU."""
        return (
            Tap("stem", "block1.layer.0.relu1"),
            *stage_taps((path, path) for path in ("block2.layer.0.relu1", "block3.layer.0.relu1", "relu")),
            Tap("embedding", "pool", "vector"),
        )

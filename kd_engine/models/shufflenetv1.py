"""ShuffleNet V1 for small images: RepDistiller's `ShuffleV1`, three groups, stages of 240, 480, 960 channels.

State-dict names are RepDistiller's (`conv1 bn1 layer1..3 linear`). Every stage starts by halving the
resolution, so that 32×32 images end at 4×4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd_engine.models import Architecture, stage_taps
from kd_engine.taps import Tap

STEM, GROUPS = 24, 3
STAGES = ((240, 4), (480, 8), (960, 4))  # channels, blocks


class ShuffleNetV1(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU()
        inputs = STEM
        for k, (channels, blocks) in enumerate(STAGES, 1):
            first = ShuffleUnit(inputs, channels, 2)
            more = (ShuffleUnit(channels, channels, 1) for _ in range(blocks - 1))
            self.add_module(f"layer{k}", nn.Sequential(first, *more))
            inputs = channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for k in range(1, len(STAGES) + 1):
            x = self.get_submodule(f"layer{k}")(x)
        logits: Tensor = self.linear(self.pool(x).flatten(1))
        return logits


class ShuffleUnit(nn.Module):
    """Grouped 1×1, shuffled channels, a filter per channel, grouped 1×1. At stride 1 the input is added, at
    stride 2 its average is appended as further channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.appends = stride == 2
        outputs -= inputs if self.appends else 0
        middle = outputs // 4
        self.groups = 1 if inputs == STEM else GROUPS  # the first has too few channels for groups
        self.conv1 = nn.Conv2d(inputs, middle, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outputs, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut = nn.AvgPool2d(3, 2, padding=1) if self.appends else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = y.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        short = self.shortcut(x)
        out: Tensor = self.relu(torch.cat([y, short], 1) if self.appends else y + short)
        return out


class ShuffleNetV1Family(Architecture):
    name = "shufflenetv1"
    title = "ShuffleNet V1 for small images"
    help = "Grouped convolutions with shuffled channels: a light student of another style than its teacher."
    source = "Zhang, Zhou, Lin, Sun 2018, arXiv:1707.01083; RepDistiller models/ShuffleNetv1.py"
    names = ("shufflenetv1",)

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: object) -> nn.Module:
        return ShuffleNetV1(classes)

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        stages = ((f"layer{k}", f"layer{k}.{blocks - 1}.relu") for k, (_, blocks) in enumerate(STAGES, 1))
        return (Tap("stem", "relu"), *stage_taps(stages), Tap("embedding", "pool", "vector"))

"""The CIFAR ResNets of the literature, resnet8 to resnet110, and their wide forms resnet8x4 and
resnet32x4.

State-dict names are those of akamaster/pytorch_resnet_cifar10 (`conv1 bn1 layer1..3 linear`); the
convolutional shortcut is called `downsample`, as in RepDistiller, whose `fc` is our `linear`
(kd_engine.weights renames it).
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.models import Architecture, stage_taps
from kd_engine.taps import Tap

NARROW = (16, 16, 32, 64)  # channels of the stem and of the three stages
WIDE = (32, 64, 128, 256)
DEPTHS = {f"resnet{depth}": (depth, NARROW) for depth in (8, 14, 20, 32, 44, 56, 110)} | {
    "resnet8x4": (8, WIDE),
    "resnet32x4": (32, WIDE),
}


class ResNetKnobs(Knobs):
    shortcut: Literal["A", "B"] = knob(
        "B",
        "How a shortcut gets more channels: B by a 1×1 convolution, as in most distillation papers; A by "
        "zeros, as in the first ResNet paper. A checkpoint fits only the one it was trained with.",
    )


class ResNet(nn.Module):
    """Stem, three stages of `blocks` basic blocks at strides 1, 2, 2, average pooling, one linear layer."""

    def __init__(self, blocks: int, channels: tuple[int, ...], classes: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU()
        self.layer1 = _stage(blocks, channels[0], channels[1], 1, shortcut)
        self.layer2 = _stage(blocks, channels[1], channels[2], 2, shortcut)
        self.layer3 = _stage(blocks, channels[2], channels[3], 2, shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self.pool(x).flatten(1))
        return logits


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; the output is read after the activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(inputs, outputs, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(y + self.downsample(x))
        return out


class PaddedShortcut(nn.Module):
    """Shortcut A: every `stride`-th pixel, and zeros for the new channels, half of them on either side."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.pad, self.stride = more // 2, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))


def _shortcut(inputs: int, outputs: int, stride: int, kind: str) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if kind == "A":
        return PaddedShortcut(outputs - inputs, stride)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def _stage(blocks: int, inputs: int, outputs: int, stride: int, shortcut: str) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1, shortcut) for _ in range(blocks - 1)))


class ResNetFamily(Architecture):
    name = "resnet"
    title = "ResNet for small images"
    help = "The networks of most distillation papers: three stages at full, half and quarter resolution."
    source = "He, Zhang, Ren, Sun 2016, arXiv:1512.03385, section 4.2; wide forms: RepDistiller"
    Knobs = ResNetKnobs
    names = tuple(DEPTHS)

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: ResNetKnobs) -> nn.Module:
        depth, channels = DEPTHS[model]
        return ResNet((depth - 2) // 6, channels, classes, knobs.shortcut)

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        blocks = (DEPTHS[model][0] - 2) // 6
        stages = ((f"layer{k}", f"layer{k}.{blocks - 1}.relu") for k in (1, 2, 3))
        return (Tap("stem", "relu"), *stage_taps(stages), Tap("embedding", "pool", "vector"))

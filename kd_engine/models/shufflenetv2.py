"""ShuffleNet V2 for small images: RepDistiller's `ShuffleV2`, size 1, stages of 116, 232, 464 channels.

State-dict names are RepDistiller's (`conv1 bn1 layer1..3 conv2 bn2 linear`). A block activates after it has
shuffled both halves, where the reference activates one half before: the same numbers, since the other half is
not negative already, but so the values before a stage's last activation can be heard, in the stage's order of
channels (RepDistiller's come unshuffled).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd_engine.models import Architecture, stage_taps
from kd_engine.taps import Tap

STEM, LAST = 24, 1024
STAGES = ((116, 4), (232, 8), (464, 4))  # channels, blocks


class ShuffleNetV2(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu1 = nn.ReLU()
        inputs = STEM
        for k, (channels, blocks) in enumerate(STAGES, 1):
            more = (BasicBlock(channels) for _ in range(blocks - 1))
            self.add_module(f"layer{k}", nn.Sequential(DownBlock(inputs, channels), *more))
            inputs = channels
        self.conv2 = nn.Conv2d(inputs, LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(LAST)
        self.relu2 = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(LAST, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        for k in range(1, len(STAGES) + 1):
            x = self.get_submodule(f"layer{k}")(x)
        x = self.relu2(self.bn2(self.conv2(x)))
        logits: Tensor = self.linear(self.pool(x).flatten(1))
        return logits


class BasicBlock(nn.Module):
    """The second half of the channels is transformed, the first passes; then both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        kept, y = x.chunk(2, dim=1)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(y)))))
        out: Tensor = self.relu(_shuffled(kept, self.bn3(self.conv3(y))))
        return out


class DownBlock(nn.Module):
    """Both halves are made anew from all channels, at half the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 2, padding=1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        left = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        right = self.bn4(self.conv4(self.relu(self.bn3(self.conv3(x)))))
        out: Tensor = self.relu(_shuffled(left, self.bn5(self.conv5(right))))
        return out


def _shuffled(left: Tensor, right: Tensor) -> Tensor:
    """Channels of both in turn: (N, C, H, W) twice to (N, 2C, H, W)."""
    return torch.stack([left, right], dim=2).flatten(1, 2)


class ShuffleNetV2Family(Architecture):
    name = "shufflenetv2"
    title = "ShuffleNet V2 for small images"
    help = "Half of the channels pass a block untouched: fast for its size."
    source = "Ma, Zhang, Zheng, Sun 2018, arXiv:1807.11164; RepDistiller models/ShuffleNetv2.py"
    names = ("shufflenetv2",)

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: object) -> nn.Module:
        return ShuffleNetV2(classes)

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        """The last stage is read before the last convolution, as in the reference."""
        stages = ((f"layer{k}", f"layer{k}.{blocks - 1}.relu") for k, (_, blocks) in enumerate(STAGES, 1))
        return (Tap("stem", "relu1"), *stage_taps(stages), Tap("embedding", "pool", "vector"))

"""MobileNetV2 for small images, at half width: RepDistiller's `mobile_half`.

State-dict names are RepDistiller's (`conv1 blocks conv2 classifier`). The stem halves the resolution, so that
32×32 images end at 2×2. Sharp edge: its bottlenecks are linear, there is no activation at the end of a stage;
`preactK` therefore is `stageK` itself, as in RepDistiller and mdistiller.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd_engine.models import Architecture, stage_taps
from kd_engine.taps import Tap

STEM, EXPANSION, LAST = 16, 6, 1280  # channels at half width; the last convolution keeps its full width
GROUPS = (  # expansion, channels at half width, blocks, stride of the first
    (1, 8, 1, 1),
    (EXPANSION, 12, 2, 1),
    (EXPANSION, 16, 3, 2),
    (EXPANSION, 32, 4, 2),
    (EXPANSION, 48, 3, 1),
    (EXPANSION, 80, 3, 2),
    (EXPANSION, 160, 1, 1),
)
STAGES = (1, 2, 4, 6)  # the groups after which the reference reads


class MobileNetV2(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = _unit(3, STEM, 3, 2)
        self.blocks = nn.ModuleList()
        inputs = STEM
        for expansion, channels, depth, stride in GROUPS:
            first = InvertedResidual(inputs, channels, stride, expansion)
            more = (InvertedResidual(channels, channels, 1, expansion) for _ in range(depth - 1))
            self.blocks.append(nn.Sequential(first, *more))
            inputs = channels
        self.conv2 = _unit(inputs, LAST, 1, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(LAST, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # of all outputs, also where channels are separate
                spread = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
                nn.init.normal_(module.weight, std=spread)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for group in self.blocks:
            x = group(x)
        logits: Tensor = self.classifier(self.pool(self.conv2(x)).flatten(1))
        return logits


class InvertedResidual(nn.Module):
    """Widen by a 1×1 convolution, filter each channel, narrow without activation; a shortcut where the shape
    stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.conv = nn.Sequential(
            *_unit(inputs, wide, 1, 1),
            *_unit(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.shortcut else out


def _unit(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class MobileNetV2Family(Architecture):
    name = "mobilenetv2"
    title = "MobileNetV2 for small images"
    help = "Half the width, 6.5 million multiply-adds at 32×32: the cheapest student of the CIFAR tables."
    source = "Sandler et al. 2018, arXiv:1801.04381; RepDistiller models/mobilenetv2.py, mobile_half"
    names = ("mobilenetv2",)

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: object) -> nn.Module:
        return MobileNetV2(classes)

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        return (
            Tap("stem", "conv1"),
            *stage_taps((f"blocks.{k}", None) for k in STAGES),
            Tap("embedding", "pool", "vector"),
        )

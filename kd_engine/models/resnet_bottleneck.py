"""ResNet-50 for small images: the ImageNet network with a 3×3 stem and no pooling before the first stage.

State-dict names are those of RepDistiller's `resnetv2.py` (`conv1 bn1 layer1..4 linear`, shortcuts
`shortcut`). torchvision's `resnet50`, for large photographs, is another network.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd_engine.models import Architecture, stage_taps
from kd_engine.taps import Tap

STEM, WIDEN = 64, 4
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # channels in the bottleneck, blocks


class BottleneckResNet(nn.Module):
    """Stem, four stages at strides 1, 2, 2, 2, average pooling, one linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU()
        inputs = STEM
        for k, (narrow, blocks) in enumerate(STAGES, 1):
            first = Bottleneck(inputs, narrow, 1 if k == 1 else 2)
            inputs = narrow * WIDEN
            more = (Bottleneck(inputs, narrow, 1) for _ in range(blocks - 1))
            self.add_module(f"layer{k}", nn.Sequential(first, *more))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for k in range(1, len(STAGES) + 1):
            x = self.get_submodule(f"layer{k}")(x)
        logits: Tensor = self.linear(self.pool(x).flatten(1))
        return logits


class Bottleneck(nn.Module):
    """1×1 to fewer channels, 3×3, 1×1 to four times as many, and a shortcut around them."""

    def __init__(self, inputs: int, narrow: int, stride: int) -> None:
        super().__init__()
        wide = narrow * WIDEN
        self.conv1 = nn.Conv2d(inputs, narrow, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, wide, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(wide)
        self.relu = nn.ReLU()
        same = stride == 1 and inputs == wide
        projection = (nn.Conv2d(inputs, wide, 1, stride, bias=False), nn.BatchNorm2d(wide))
        self.shortcut = nn.Sequential(*(() if same else projection))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + self.shortcut(x))
        return out


class BottleneckResNetFamily(Architecture):
    name = "resnet-bottleneck"
    title = "ResNet-50 for small images"
    help = "The large teacher of the CIFAR tables: ResNet-50 with a stem that keeps the full resolution."
    source = "He, Zhang, Ren, Sun 2016, arXiv:1512.03385; RepDistiller models/resnetv2.py, ResNet50"
    names = ("resnet50-cifar",)

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: object) -> nn.Module:
        return BottleneckResNet(classes)

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        stages = ((f"layer{k}", f"layer{k}.{blocks - 1}.relu") for k, (_, blocks) in enumerate(STAGES, 1))
        return (Tap("stem", "relu"), *stage_taps(stages), Tap("embedding", "pool", "vector"))

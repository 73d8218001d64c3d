"""A plain convolutional network of a few kilobytes: the smallest student, with the stages of a CIFAR
ResNet."""

from __future__ import annotations

from torch import Tensor, nn

from kd_engine.knobs import Knobs, knob
from kd_engine.models import Architecture, stage_taps
from kd_engine.taps import Tap


class CnnKnobs(Knobs):
    width: int = knob(
        4, "Channels of the first stage; the others have two and four times as many.", low=1, high=256
    )


class Cnn(nn.Module):
    """Stem and three stages of one 3×3 convolution each, at strides 1, 1, 2, 2: 99 width² weights and a
    few more."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = _unit(3, width, 1)
        self.stage1 = _unit(width, width, 1)
        self.stage2 = _unit(width, 2 * width, 2)
        self.stage3 = _unit(2 * width, 4 * width, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        logits: Tensor = self.linear(self.pool(x).flatten(1))
        return logits


def _unit(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class CnnFamily(Architecture):
    name = "cnn"
    title = "Small CNN"
    help = "Four convolutions, a few kilobytes: for the smallest students."
    Knobs = CnnKnobs
    names = ("cnn",)

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: CnnKnobs) -> nn.Module:
        return Cnn(knobs.width, classes)

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        stages = ((f"stage{k}", f"stage{k}.2") for k in (1, 2, 3))
        return (Tap("stem", "stem"), *stage_taps(stages), Tap("embedding", "pool", "vector"))

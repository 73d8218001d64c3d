"""VGG with batch norm for small images: vgg8 to vgg19, with one linear layer instead of three.

State-dict names are RepDistiller's (`block0..4 classifier`). As there, the fourth pooling is left out below
64 pixels, so that the last two stages have the same resolution (4×4 for 32×32 images). Sharp edge:
RepDistiller pools there at 64 pixels only; here at 64 and more. torchvision's networks of these names, which
have no norms, are called `torchvision:vgg11` and so on.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.models import Architecture, stage_taps
from kd_engine.taps import Tap

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {  # in each of the five blocks
    "vgg8": (1, 1, 1, 1, 1),
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
LARGE = 64  # pixels from which all four poolings take place
SMALLEST = 8  # pixels: three poolings leave one place


class Vgg(nn.Module):
    """Five blocks of 3×3 convolutions, halving the resolution between them; the activation that ends a block
    stands outside of it."""

    def __init__(self, convolutions: tuple[int, ...], classes: int) -> None:
        super().__init__()
        inputs = (3, *CHANNELS)
        for k, (depth, channels) in enumerate(zip(convolutions, CHANNELS, strict=True)):
            self.add_module(f"block{k}", _block(depth, inputs[k], channels))
        self.relus = nn.ModuleList(nn.ReLU() for _ in CHANNELS)
        self.halve = nn.MaxPool2d(2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(CHANNELS[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        poolings = 4 if x.shape[2] >= LARGE else 3
        for k, relu in enumerate(self.relus):
            x = relu(self.get_submodule(f"block{k}")(x))
            if k < poolings:
                x = self.halve(x)
        logits: Tensor = self.classifier(self.pool(x).flatten(1))
        return logits


def _block(depth: int, inputs: int, outputs: int) -> nn.Sequential:
    """Convolution, norm and ReLU, `depth` times, but for the last ReLU."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers[:-1])


class VggFamily(Architecture):
    name = "vgg"
    title = "VGG for small images"
    help = "Plain stacks of 3×3 convolutions with batch norm, as in the tables of the distillation papers."
    source = "Simonyan, Zisserman 2015, arXiv:1409.1556; RepDistiller models/vgg.py"
    names = tuple(CONVOLUTIONS)

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: object) -> nn.Module:
        if size < SMALLEST:
            raise KdError(
                f"{model} cannot take {size}×{size} images: it halves the resolution three times.",
                f"It takes {SMALLEST}×{SMALLEST} and more.",
            )
        return Vgg(CONVOLUTIONS[model], classes)

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        """stem: the first block, which is at full resolution; stage1 ... stage4: the other four."""
        return (
            Tap("stem", "relus.0"),
            *stage_taps((f"relus.{k}", f"relus.{k}") for k in (1, 2, 3, 4)),
            Tap("embedding", "pool", "vector"),
        )

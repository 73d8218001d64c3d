"""Small convolutional parts that carry a student's features to the shape of a teacher's."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, ...]


class BatchNorm(nn.BatchNorm2d):
    """As torch's, but a batch that gives a channel one value only is normalised with the running statistics,
    as in use, and leaves them alone: of one value there is no variance, and torch refuses it."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(x)


def as_map(shape: Shape) -> tuple[int, int, int]:
    """A map (C, H, W) as it is; tokens (T, D) as a map (D, T, 1)."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[1], shape[0], 1)


def regressor(student: Shape, teacher: Shape, *, relu: bool = True) -> nn.Sequential:
    """Convolution and BatchNorm, and ReLU where asked for, from the student's shape (C, H, W), or (T, D), to
    the teacher's: RepDistiller's ConvReg, and what it lacks.

    Maps of equal size get a 1×1 convolution, a student map twice as large a 3×3 one with stride 2, half as
    large a transposed 4×4 one with stride 2. For any other ratio the student's map is average-pooled (or
    upsampled bilinearly) to the teacher's size before the 1×1 convolution; RepDistiller has a kernel as large
    as the difference for larger ones, and fails for smaller ones.
    """
    (c, h, w), (out, height, width) = as_map(student), as_map(teacher)
    resize: nn.Module | None = None
    conv: nn.Module = nn.Conv2d(c, out, 1, bias=False)  # BatchNorm follows: a bias would be taken out again
    if (h, w) == (2 * height, 2 * width):
        conv = nn.Conv2d(c, out, 3, stride=2, padding=1, bias=False)
    elif (2 * h, 2 * w) == (height, width):
        conv = nn.ConvTranspose2d(c, out, 4, stride=2, padding=1, bias=False)
    elif h <= height and w <= width and (h, w) != (height, width):
        resize = nn.Upsample(size=(height, width), mode="bilinear", align_corners=False)
    elif (h, w) != (height, width):
        resize = nn.AdaptiveAvgPool2d((height, width))
    parts = [resize, conv, BatchNorm(out), nn.ReLU() if relu else None]
    return nn.Sequential(*(part for part in parts if part is not None))


def connector(channels: int, out: int) -> nn.Sequential:
    """A 1×1 convolution and BatchNorm, started as in RepDistiller's ConnectorV2: weights normal, with
    variance 2 / `out`."""
    conv = nn.Conv2d(channels, out, 1, bias=False)
    nn.init.normal_(conv.weight, 0.0, math.sqrt(2.0 / out))
    return nn.Sequential(conv, BatchNorm(out))

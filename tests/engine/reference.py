"""Maps, convolutions and BatchNorm in float64 numpy, written from their definitions: what losses on maps are
checked against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from kd_engine.methods import Method, Terms
from kd_engine.signals import Signals

EPS = 1e-5  # of BatchNorm
Array = np.ndarray


def feature(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def signals(taps: Mapping[str, Tensor], classes: int = 2) -> Signals:
    batch = len(next(iter(taps.values())))
    return Signals(torch.zeros(batch, classes, dtype=torch.float64), dict(taps))


def prepared(method: Method, student: Signals, teacher: Signals, seed: int = 0) -> Method:
    """Its parts built from a seed, in float64."""
    torch.manual_seed(seed)
    method.prepare(student.shapes(), teacher.shapes())
    return method.double()


def terms(method: Method, student: Signals, teacher: Signals) -> Terms:
    return method(student, teacher, torch.zeros(len(student.logits), dtype=torch.int64))


def arrays(module: nn.Module) -> dict[str, Array]:
    """Its state, copied."""
    return {name: tensor.double().numpy().copy() for name, tensor in module.state_dict().items()}


def pool(f: Array, height: int, width: int) -> Array:
    """Means over the cells of a (height, width) grid; cells overlap where sizes do not divide."""
    out = np.zeros((*f.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            rows = slice(i * f.shape[2] // height, -(-(i + 1) * f.shape[2] // height))
            columns = slice(j * f.shape[3] // width, -(-(j + 1) * f.shape[3] // width))
            out[:, :, i, j] = f[:, :, rows, columns].mean((2, 3))
    return out


def to_smaller(a: Array, b: Array) -> tuple[Array, Array]:
    height, width = (int(side) for side in np.minimum(a.shape[2:], b.shape[2:]))
    return pool(a, height, width), pool(b, height, width)


def nearest(f: Array, height: int, width: int) -> Array:
    """Each position takes the value of the nearest one before it."""
    rows = np.arange(height) * f.shape[2] // height
    columns = np.arange(width) * f.shape[3] // width
    return f[:, :, rows][:, :, :, columns]


def conv(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """weight (out, in, k, k) with k odd, stride 1, as many zeros around as keep the size."""
    around = weight.shape[2] // 2
    wide = np.pad(x, ((0, 0), (0, 0), (around, around), (around, around)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, weight.shape[2:], axis=(2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True)
    return y if bias is None else y + bias[None, :, None, None]


def transposed(x: Array, weight: Array, bias: Array) -> Array:
    """weight (in, out, k, k) with k odd, stride 1, sizes kept: the adjoint of a convolution."""
    return conv(x, weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1], bias)


def batch_norm(x: Array, weight: Array, bias: Array) -> Array:
    """With the batch's own statistics."""
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    return (x - mean) / np.sqrt(variance + EPS) * weight[None, :, None, None] + bias[None, :, None, None]


def numpy(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()

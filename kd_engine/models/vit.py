"""A vision transformer for small images, whose attention weights can be heard.

Sharp edge: a model is built for one image size, because its positions are learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.knobs import Knobs, knob
from kd_engine.models import Architecture
from kd_engine.taps import ATTENTION, VALUE, Tap


class VitKnobs(Knobs):
    depth: int = knob(6, "Blocks.", low=1, high=48)
    width: int = knob(128, "Numbers per token; a multiple of the heads.", low=8, high=2048, scale="log")
    heads: int = knob(4, "Attention heads in each block.", low=1, high=64)
    patch: int = knob(4, "Side of the square patches that become tokens.", low=1, high=64, unit="pixels")


class Vit(nn.Module):
    """Patches and a class token through `depth` blocks; the class token is classified."""

    def __init__(self, size: int, patch: int, depth: int, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.size = size
        tokens = (size // patch) ** 2 + 1
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.embedding = nn.Identity()  # a place to listen at
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.positions, std=0.02)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (self.size, self.size):
            height, width = x.shape[-2:]
            raise KdError(
                f"this vit-tiny takes {self.size}×{self.size} images and got {height}×{width}.",
                "Build it with the size of the data.",
            )
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], dim=1)
        tokens = tokens + self.positions
        tokens = self.norm(self.blocks(tokens))
        logits: Tensor = self.head(self.embedding(tokens[:, 0]))
        return logits


class Block(nn.Module):
    """Attention, then a perceptron of four times the width, each after a norm and around a shortcut. (N,
    T, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Attention(nn.Module):
    """Self-attention that computes its weights openly: (N, heads, T, T), rows sum to one, heard at
    `weights`; what they mix, (N, heads, T, D / heads), at `values`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.weights, self.values = nn.Identity(), nn.Identity()  # places to listen at
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q * (d // self.heads) ** -0.5) @ k.transpose(-2, -1)
        mixed = self.weights(scores.softmax(dim=-1)) @ self.values(v)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(n, t, d))
        return out


class VitFamily(Architecture):
    name = "vit"
    title = "Vision transformer for small images"
    help = "Patches of 4×4 pixels as tokens; shows where its attention goes."
    source = "Dosovitskiy et al. 2021, arXiv:2010.11929"
    caution = (
        "Needs more images or a teacher: on a few thousand images plain training stays behind a small ResNet."
    )
    Knobs = VitKnobs
    names = ("vit-tiny",)

    @classmethod
    def build(cls, model: str, classes: int, size: int, knobs: VitKnobs) -> nn.Module:
        if knobs.width % knobs.heads:
            fitting = max(1, round(knobs.width / knobs.heads)) * knobs.heads
            raise KdError(
                f"{model}: a width of {knobs.width} does not divide by {knobs.heads} heads.",
                f"Set width to {fitting}, say.",
            )
        if size % knobs.patch:
            lower = size - size % knobs.patch
            fitting_sizes = " or ".join(str(s) for s in (lower, lower + knobs.patch) if s)
            raise KdError(
                f"{model}: {size}×{size} images cannot be cut into patches of {knobs.patch}×{knobs.patch}.",
                f"Images of {fitting_sizes} pixels work, or another patch.",
            )
        return Vit(size, knobs.patch, knobs.depth, knobs.width, knobs.heads, classes)

    @classmethod
    def taps(cls, model: str, module: nn.Module) -> tuple[Tap, ...]:
        assert isinstance(module, Vit)
        taps = []
        for index in range(len(module.blocks)):
            block = f"block{index + 1}"
            taps.append(Tap(ATTENTION + block, f"blocks.{index}.attention.weights", "attention"))
            taps.append(Tap(VALUE + block, f"blocks.{index}.attention.values", "values"))
            taps.append(Tap(block, f"blocks.{index}", "tokens"))
        return (*taps, Tap("embedding", "embedding", "vector"))

"""The tensors of a nest of plain values in one piece of memory, and back.

A model has hundreds of small tensors. To copy, fetch from a device and write them one by one costs several
times what their bytes cost.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

PLACE = "place of a tensor"  # the one key of what stands for it in a packed nest


def pack(nest: Any) -> tuple[Any, list[Tensor]]:
    """A copy of dicts, lists, tuples and plain values in which every tensor is replaced by its place in one
    of the flat tensors returned beside it: one for each device and number format. They are memory of their
    own, on the tensors' devices, and nothing here waits for those."""
    groups: dict[tuple[torch.device, torch.dtype], _Group] = {}
    packed = _packed(nest, groups)
    return packed, [torch.cat(group.parts) for group in groups.values()]


def unpack(packed: Any, memory: list[Tensor]) -> Any:
    """The nest again, with tensors of the same strides that are views of `memory`. RuntimeError, IndexError
    or another for places that are not there."""
    if isinstance(packed, dict):
        if PLACE in packed:
            group, start, shape, stride = packed[PLACE]
            return memory[group].as_strided(shape, stride, start)
        made = copy.copy(packed)  # a state dict says more than its items
        made.update((key, unpack(item, memory)) for key, item in packed.items())
        return made
    if isinstance(packed, (list, tuple)):
        return type(packed)(unpack(item, memory) for item in packed)
    return packed


class _Group:
    """Tensors of one device and number format."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.size = 0
        self.parts: list[Tensor] = []

    def add(self, tensor: Tensor) -> dict[str, Any]:
        tensor = tensor.detach()
        laid_out = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
        if not laid_out:
            tensor = tensor.contiguous()
        place = {PLACE: (self.number, self.size, tuple(tensor.shape), tensor.stride())}
        self.parts.append(tensor.as_strided((tensor.numel(),), (1,)))
        self.size += tensor.numel()
        return place


def _packed(nest: Any, groups: dict[tuple[torch.device, torch.dtype], _Group]) -> Any:
    if isinstance(nest, Tensor):
        return groups.setdefault((nest.device, nest.dtype), _Group(len(groups))).add(nest)
    if isinstance(nest, dict):
        made = copy.copy(nest)  # a state dict says more than its items
        made.update((key, _packed(item, groups)) for key, item in nest.items())
        return made
    if isinstance(nest, (list, tuple)):
        return type(nest)(_packed(item, groups) for item in nest)
    return nest

"""The tensors of a nest of plain values in one piece of memory, and back.

A model has hundreds of small tensors. To copy, fetch from a device and write them one by one costs several
times what their bytes cost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

PLACE = "place of a tensor"  # the one key of what stands for it in a packed nest


def pack(nest: Any) -> tuple[Any, list[Tensor]]:
    """A copy of dicts, lists, tuples and plain values in which every tensor is replaced by its place in one
    of the flat tensors returned beside it: one for each device and number format. They are memory of their
    own, on the tensors' devices, and nothing here waits for those."""
    groups: dict[tuple[torch.device, torch.dtype], _Group] = {}

    def placed(item: Any) -> Any:
        if not isinstance(item, Tensor):
            return item
        return groups.setdefault((item.device, item.dtype), _Group(len(groups))).add(item)

    packed = _copied(nest, placed)
    return packed, [torch.cat(group.parts) for group in groups.values()]


def unpack(packed: Any, memory: Sequence[Tensor]) -> Any:
    """The nest again, with tensors of the same layout that are views of `memory`. An error of some kind for
    places that are not there."""

    def taken(item: Any) -> Any:
        if not (isinstance(item, dict) and PLACE in item):
            return item
        group, start, shape, stride = item[PLACE]
        return memory[group].as_strided(shape, stride, start)

    return _copied(packed, taken)


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


def _copied(nest: Any, instead: Callable[[Any], Any]) -> Any:
    """The nest with what `instead` gives for each part of it; parts that it gives back are copied."""
    part = instead(nest)
    if part is not nest:
        return part
    if isinstance(nest, dict):
        made = copy.copy(nest)  # a state dict says more than its items
        made.update((key, _copied(item, instead)) for key, item in nest.items())
        return made
    if isinstance(nest, (list, tuple)):
        return type(nest)(_copied(item, instead) for item in nest)
    return nest

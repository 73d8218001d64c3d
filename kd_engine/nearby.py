"""Kept answers on the device that trains: a step that finds them there does not wait for a copy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

SHARE = 0.25  # of the device's free memory that they may take


class Nearby:
    """`count` rows of 16-bit words on a device, under several names, filled as they are met. A row is there
    under all names or under none."""

    def __init__(self, count: int, words: Mapping[str, int], device: torch.device) -> None:
        self._there = np.zeros(count, bool)
        self._rows = {  # int16, which can be gathered on every device
            name: torch.empty((count, width), dtype=torch.int16, device=device)
            for name, width in words.items()
        }
        self._device = device

    def get(self, rows: np.ndarray) -> dict[str, Tensor] | None:
        """Words (n, width) uint16 by name, or None unless all rows (n,) are there."""
        if not self._there[rows].all():
            return None
        chosen = self._numbers(rows)
        return {name: kept.index_select(0, chosen).view(torch.uint16) for name, kept in self._rows.items()}

    def put(self, rows: np.ndarray, words: Mapping[str, Tensor]) -> None:
        """Keep rows (n,) with their words (n, width) uint16 by name."""
        chosen = self._numbers(rows)
        for name, kept in self._rows.items():
            kept.index_copy_(0, chosen, words[name].view(torch.int16))
        self._there[rows] = True

    def _numbers(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows).to(self._device, non_blocking=True)


def nearby(count: int, words: Mapping[str, int], device: torch.device) -> Nearby | None:
    """Room for so many rows, where the device has memory of its own and enough of it."""
    wanted = 2 * count * sum(words.values())
    return Nearby(count, words, device) if wanted <= SHARE * free_bytes(device) else None


def free_bytes(device: torch.device) -> int:
    """Of a device's own memory; 0 for the CPU, which has the answers at hand as they are."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return 0

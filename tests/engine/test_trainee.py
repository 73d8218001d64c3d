"""The numbers of a report: read where they lie, or all at once from a device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kd_engine.trainee import read


class Far(Tensor):
    """As if it were on a device of its own."""

    is_cpu = False


def test_numbers_are_the_same_from_a_device_and_from_the_host() -> None:
    numbers = [torch.tensor(0.1), torch.tensor(3), torch.tensor([1.5, -2.0]), torch.tensor([7])]
    assert read(numbers) == [torch.tensor(0.1).item(), 3, 1.5, -2, 7]
    assert read(number.as_subclass(Far) for number in numbers) == read(numbers)
    assert read([]) == []
    assert math.isnan(*read([torch.tensor(math.nan)]))

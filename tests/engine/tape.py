"""A recorder for the CPU that holds what a CUDA graph holds: what was launched, on which tensors.

What Python does between them is not in it, numbers of Python's are frozen in it, and every replay works on
the same memory and writes its outcome to the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

T = TypeVar("T")


class Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.launched: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outcome = func(*args, **(kwargs or {}))
        self.launched.append((func, args, kwargs or {}, outcome))
        return outcome

    def __call__(self) -> None:
        """All of it again; not the first time: recording has done it."""
        self.replays += 1
        if self.replays == 1:
            return
        with torch.no_grad():
            for func, args, kwargs, before in self.launched:
                for old, new in zip(tensors([before]), tensors([func(*args, **kwargs)]), strict=True):
                    if old.data_ptr() != new.data_ptr():  # else a view, or changed in place
                        old.view(new.shape).copy_(new)  # it may have been reshaped in place later


class TapeRecorder:
    def __init__(self) -> None:
        self.tapes: list[Tape] = []
        self.aside_of = 0

    @contextmanager
    def aside(self) -> Generator[None, None, None]:
        self.aside_of += 1
        yield

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        tape = Tape()
        self.tapes.append(tape)
        with tape:
            outcome = work()
        return outcome, tape


def tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)

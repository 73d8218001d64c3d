"""Where the arithmetic happens: device, number format, threads, and how a step is seeded."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from importlib.metadata import version
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kd_engine.errors import KdError
from kd_engine.recipe_knobs import HardwareKnobs
from kd_engine.replay import CudaRecorder, Recorder

T = TypeVar("T")


class Backend:
    """A device and a number format. side_by_side: whether students may learn at the same time.

    KdError when the device is not there, or cannot compute in the format asked for.
    """

    def __init__(self, hardware: HardwareKnobs) -> None:
        self.device = torch.device(_choose(hardware.device))
        if hardware.precision != "32" and self.device.type == "cpu":
            raise KdError(
                f"hardware.precision: {hardware.precision} needs a GPU, and this run would be on the CPU.",
                "Set it to 32.",
            )
        if hardware.graph and (self.device.type != "cuda" or hardware.precision == "fp16"):
            why = "there is none" if self.device.type != "cuda" else "with fp16 a step looks at its numbers"
            raise KdError(
                f"hardware.graph: recording a step needs an Nvidia GPU, and 32 or bf16; {why}.",
                "Set it to false.",
            )
        self._graph = hardware.graph
        self.side_by_side = hardware.side_by_side and self.device.type == "cpu"
        self.dtype = {"32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[hardware.precision]
        if hardware.threads:
            set_threads(hardware.threads)

    def place(self, module: nn.Module) -> nn.Module:
        """The module on the device, in the memory layout that its convolutions compute fastest in."""
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def lay_out(self, inputs: Tensor) -> Tensor:
        """Images (N, 3, H, W) in the memory layout of the placed modules."""
        return inputs.contiguous(memory_format=torch.channels_last)

    def autocast(self) -> AbstractContextManager[Any]:
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """A loss scaler of one student's own: at work for fp16 only, where small gradients would vanish."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    def recorder(self) -> Recorder | None:
        """What records one student's steps, where they are to be recorded."""
        return CudaRecorder() if self._graph else None

    def environment(self) -> dict[str, Any]:
        """What a reader needs to repeat the run elsewhere, as plain values."""
        names = ("kd-studio", "torch", "torchvision", "numpy")
        return {
            "device": self.device.type,
            "device_name": _device_name(self.device),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": {name: version(name) for name in names},
        }


def mix(*parts: int | str) -> int:
    """A 63-bit seed from any parts: the same parts give the same seed, on every machine."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Torch's generators start from a seed mixed from `parts`, and are put back as they were afterwards."""
    with random_kept():
        reseed(*parts)
        yield


def reseed(*parts: int | str) -> None:
    """Torch's generators start from a seed mixed from `parts`.

    Every step is seeded by its number, so what a random layer does depends neither on probes, pauses nor
    resumes.
    """
    seed = mix(*parts)
    # Not torch.manual_seed: it also seeds devices that are not there, formatting a stack trace for each.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


@contextmanager
def random_kept() -> Iterator[None]:
    """The state of torch's generators, which are one for the whole process, is afterwards what it was."""
    # Not torch.random.fork_rng: every event of a run passes here, and it takes some five times as long.
    mine = torch.default_generator.get_state()
    gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.default_generator.set_state(mine)
        if gpu is not None:
            torch.cuda.set_rng_state(gpu)


@contextmanager
def threads_kept() -> Iterator[None]:
    """The number of CPU threads, which is one for the whole process, is afterwards what it was."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        set_threads(before)


def undisturbing(work: Generator[T, None, None]) -> Generator[T, None, None]:
    """`work`, with a number of CPU threads of its own; torch's generators are afterwards what they were: two
    sessions in one process do not disturb each other. Random numbers of `work` must not depend on what was
    drawn before it last yielded: it reseeds."""
    mine = None
    with closing(work):
        while True:
            with threads_kept(), random_kept():
                if mine is not None:
                    set_threads(mine)
                try:
                    item = next(work)
                except StopIteration:
                    return
                mine = torch.get_num_threads()
            yield item


def set_threads(number: int) -> None:
    if number != torch.get_num_threads():
        torch.set_num_threads(number)


def _choose(asked: str) -> str:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[asked]:
        raise KdError(f"hardware.device: there is no '{asked}' on this machine.", "Set it to auto.")
    return asked


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()

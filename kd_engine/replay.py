"""Launch all kernels of a training step at once: the step is recorded, then replayed for batch after batch.

A small network on a GPU is bound by launching its kernels from Python, not by its arithmetic. A recording is
of the very kernels that the step launches, at the same addresses, so that it changes no number; what Python
did between them (a temperature, a weight) is frozen in it. A step is therefore recorded only when nothing of
that moves with the step and nothing in it waits for the device, which is found out by watching it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kd_engine.errors import KdError
from kd_engine.schedules import Clock
from kd_engine.signals import Signals

T = TypeVar("T")

BEFORE = 3  # steps before a recording, so that all that is made lazily is there
READS = {  # what makes Python wait for the device, or takes a value from Python to it
    "aten::_local_scalar_dense": "it reads a number from the device",
    "aten::nonzero": "it asks how many there are of something",
    "aten::masked_select": "it asks how many there are of something",
    "aten::_unique2": "it asks how many there are of something",
    "aten::equal": "it asks whether two tensors are equal",
    "aten::lift_fresh": "it makes a tensor from a number of Python's",
}
SOLVERS = ("svd", "eig", "eigh", "eigvals", "lstsq", "check_errors")  # they look whether they succeeded


class Given(NamedTuple):
    """What a step is made of: inputs (N, 3, H, W), samples (N,), target as the task says, and what the
    teacher says of them."""

    inputs: Tensor
    samples: Tensor
    target: Tensor
    teacher: Signals | None

    def each(self, change: Callable[[Tensor], Tensor]) -> Given:
        teacher = None if self.teacher is None else self.teacher.each(change)
        return Given(change(self.inputs), change(self.samples), change(self.target), teacher)

    def tensors(self) -> Iterator[Tensor]:
        """All of them, in the order of `each`."""
        yield from (self.inputs, self.samples, self.target)
        if self.teacher is not None:
            yield from self.teacher.tensors()

    def form(self) -> tuple[Any, ...]:
        """What two of them have in common that the same kernels work on."""
        return tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in self.tensors())


class Numbers(NamedTuple):
    """What a step cost. terms, weighted: names of losses. values: total, terms, weighted, right and counted
    answers, on the device, one by one or several in a tensor."""

    terms: tuple[str, ...]
    weighted: tuple[str, ...]
    values: tuple[Tensor, ...]


class Recorder(Protocol):
    """Records what is launched on a device."""

    def aside(self) -> AbstractContextManager[None]:
        """Where the steps before a recording are made."""

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """What `work` returns, and what does it again, into the very same tensors. Whether recording carries
        it out or not, the first call of that leaves all as if it had been done once."""


class CudaRecorder:
    """Records a CUDA graph. RuntimeError when the device refuses; the process can hardly go on then."""

    def __init__(self) -> None:
        # a capture wants what came before it on a stream of its own
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()  # one at a time is replayed, and its outcome copied

    @contextmanager
    def aside(self) -> Generator[None, None, None]:
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            yield
        here.wait_stream(self._stream)

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        # thread_local: threads that read images ask for pinned memory meanwhile
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
            outcome = work()
        return outcome, graph.replay


class Replay:
    """A step that is recorded when it can be. why_not: what is in the way, in words; empty if nothing is."""

    def __init__(self, step: Callable[[Given, Clock], Numbers], recorder: Recorder) -> None:
        self._step = step
        self._recorder = recorder
        self.forget()

    def forget(self) -> None:
        """What Python does in a step has changed, or the tensors that it works on are others."""
        self.why_not = ""
        self._never = False
        self._made: dict[tuple[Any, ...], int] = {}
        self._recordings: dict[tuple[Any, ...], _Recording] = {}

    def __call__(self, given: Given, clock: Clock) -> Numbers:
        """Make the step. KdError where it could not be recorded although nothing told so."""
        form = given.form()
        if form not in self._recordings:
            if self._never:
                return self._step(given, clock)
            if self._made.get(form, 0) < BEFORE:
                return self._watched(form, given, clock)
            self._recordings[form] = self._record(given, clock)
        return self._recordings[form](given)

    def _watched(self, form: tuple[Any, ...], given: Given, clock: Clock) -> Numbers:
        """Made as it is, while it is found out whether it can be recorded."""
        seen = Watched(*clock)
        made = self._made.get(form, 0) + 1
        with self._recorder.aside():
            if made < BEFORE:
                numbers = self._step(given, seen)
            else:
                with Reads() as reads:  # type: ignore[no-untyped-call]
                    numbers = self._step(given, seen)
                self._never = bool(reads.found)
                self.why_not = reads.found
        if seen.moved:
            self.why_not = "a weight or a temperature moves with the step"
            self._made[form] = 0
        elif not self._never:
            self.why_not = ""
            self._made[form] = made
        return numbers

    def _record(self, given: Given, clock: Clock) -> _Recording:
        kept = given.each(torch.clone)
        try:
            numbers, again = self._recorder.record(lambda: self._step(kept, clock))
        except RuntimeError as refused:
            raise KdError(
                f"hardware.graph: the step could not be recorded ({str(refused).splitlines()[0]}).",
                "Set it to false; the run can then go on from its last checkpoint.",
            ) from refused
        return _Recording(kept, numbers, again)


class _Recording(NamedTuple):
    """given: what it works on; numbers: where its outcome appears."""

    given: Given
    numbers: Numbers
    again: Callable[[], None]

    def __call__(self, given: Given) -> Numbers:
        for mine, theirs in zip(self.given.tensors(), given.tensors(), strict=True):
            mine.copy_(theirs, non_blocking=True)
        self.again()
        copied = torch.stack([value.float() for value in self.numbers.values])
        return self.numbers._replace(values=(copied,))


class Watched(Clock):
    """A clock that remembers whether somebody who may see another time at the next step has read it."""

    moved = False

    @property
    def epoch(self) -> float:
        self.moved = True
        return self[0]

    @property
    def share(self) -> float:
        self.moved = True
        return self[1]

    def before(self, share: float) -> bool:
        if early := self[1] < share:
            self.moved = True
        return early


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches what is launched. found: the first thing that a recording cannot hold, in words."""

    found = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outcome = func(*args, **(kwargs or {}))
        if not self.found:
            self.found = _obstacle(func.name().split(".")[0], args, outcome)
        return outcome


def _obstacle(name: str, args: Any, outcome: Any) -> str:
    if name in READS:
        return READS[name]
    solver = name.rpartition("linalg_")[2]
    if solver in SOLVERS:
        return f"{solver} looks whether it succeeded"
    if name.startswith("aten::index") and any(part.dtype is torch.bool for part in _tensors(args)):
        return READS["aten::nonzero"]
    devices = {tensor.device for tensor in (*_tensors(args), *_tensors([outcome])) if tensor.dim()}
    return "it copies between devices" if len(devices) > 1 else ""


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)

"""Measure a model: what it gets right, how close it is to its teacher, what it costs. It leaves the model
as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from kd_engine.allocation import nothing_free
from kd_engine.backend import Backend
from kd_engine.batches import Batches
from kd_engine.energy import Counter
from kd_engine.models import count_macs, count_parameters

BATCH = 256
SECONDS = 2.0  # of work that a throughput is measured over: counters of energy tell of every tenth of one
PROC = Path("/proc/self")


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every submodule's mode is put back afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def predict(module: nn.Module, batches: Batches, backend: Backend) -> np.ndarray:
    """Logits (N, C), float32, of every sample of `batches`, unaugmented, in order."""
    answers = []
    with at_rest(module), backend.autocast(), closing(batches.all(BATCH)) as stream:
        for _, inputs, _ in stream:
            answers.append(module(backend.lay_out(inputs)).float().cpu().numpy())
    return np.concatenate(answers)


def against_teacher(student: np.ndarray, teacher: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """How close a student is to its teacher on the same samples; logits (N, C) each.

    agreement: share of samples with the same top class. kl: nats per sample from teacher to student at T = 1.
    retention: ratio of their top-1 accuracies; nan when the teacher gets nothing right.
    """
    log_s, log_t = _log_softmax(student), _log_softmax(teacher)
    right_s = (student.argmax(-1) == target).mean()
    right_t = (teacher.argmax(-1) == target).mean()
    return {
        "agreement": float((student.argmax(-1) == teacher.argmax(-1)).mean()),
        "kl": float((np.exp(log_t) * (log_t - log_s)).sum(-1).mean()),
        "retention": float(right_s / right_t) if right_t else float("nan"),
    }


def gaps(student: np.ndarray, teacher: np.ndarray, target: np.ndarray) -> list[float | None]:
    """By class: how much of it the student finds beyond what the teacher does (its recall minus the
    teacher's), negative where it finds less. None for a class without a sample. Logits (N, C) each."""
    ahead = (student.argmax(-1) == target).astype(int) - (teacher.argmax(-1) == target).astype(int)
    return [
        float(ahead[target == label].mean()) if (target == label).any() else None
        for label in range(student.shape[-1])
    ]


def cost(module: nn.Module, size: int) -> dict[str, int]:
    """parameters; macs: multiply-adds of one image of `size` pixels; bytes: of its weights on disk."""
    # clone: parts may share their weights, which the format does not know
    state = {name: tensor.clone().contiguous() for name, tensor in module.state_dict().items()}
    return {
        "parameters": count_parameters(module),
        "macs": count_macs(module, size),
        "bytes": len(to_bytes(state)),
    }


def latency(module: nn.Module, size: int, backend: Backend, repeats: int = 50) -> dict[str, float]:
    """Milliseconds for one image: `latency_ms_p50` and `latency_ms_p95` over `repeats` calls after a warm-
    up."""
    image = torch.zeros(1, 3, size, size, device=backend.device)
    took = []
    with at_rest(module), backend.autocast():
        for i in range(repeats + 5):
            _wait(backend)
            started = time.perf_counter()
            module(image)
            _wait(backend)
            if i >= 5:  # the first calls pay for plans and caches
                took.append((time.perf_counter() - started) * 1000)
    p50, p95 = np.percentile(took, [50, 95])
    return {"latency_ms_p50": float(p50), "latency_ms_p95": float(p95)}


def pace(
    module: nn.Module, inputs: Tensor, backend: Backend, counter: Counter | str, seconds: float | None = None
) -> dict[str, Any]:
    """What many images at once take. inputs: one batch, on the device; reading and placing images does not
    count. counter: of energy, or why there is none (see kd_engine.energy).

    images_per_s: over `seconds` (SECONDS) of passes after a warm-up. memory_bytes: see `working_memory`.
    energy_j_per_1000: joules for 1,000 images, of the whole chip, over the same passes. batch: images in
    inputs. counter: what counted the energy. What cannot be measured is None, and `unmeasured` says why, by
    figure.
    """
    memory = working_memory(module, inputs, backend)
    passes = joules = 0.0
    with at_rest(module), backend.autocast():
        module(inputs)
        _wait(backend)
        before = 0.0 if isinstance(counter, str) else counter.joules()
        started = time.perf_counter()
        while passes < 2 or time.perf_counter() - started < (SECONDS if seconds is None else seconds):
            module(inputs)
            _wait(backend)
            passes += 1
        took = time.perf_counter() - started
        joules = 0.0 if isinstance(counter, str) else counter.joules() - before
    images = passes * len(inputs)
    why = {"memory_bytes": memory, "energy_j_per_1000": counter}
    return {
        "batch": len(inputs),
        "images_per_s": images / took,
        "memory_bytes": None if isinstance(memory, str) else memory,
        "energy_j_per_1000": None if isinstance(counter, str) else 1000 * joules / images,
        "counter": None if isinstance(counter, str) else counter.name,
        "unmeasured": {name: reason for name, reason in why.items() if isinstance(reason, str)},
    }


def working_memory(module: nn.Module, inputs: Tensor, backend: Backend) -> int | str:
    """Bytes that a pass over a batch takes at its peak beyond the weights and the inputs, or why it cannot
    be told.

    On a GPU, as torch's allocator counts. On the CPU, by how far the kernel's own mark of this process's
    resident memory rises: with what libraries allocate on the side and malloc's own overhead, and only while
    nothing else in this process allocates. It needs Linux's /proc, and glibc, for memory that was
    freed but kept would hide what is taken again.
    """
    if backend.device.type == "cuda":
        return _allocated(module, inputs, backend)
    if backend.device.type != "cpu":
        return f"torch does not tell the peak of {backend.device.type}"
    if not (PROC / "clear_refs").exists():
        return "this system does not tell how a process's memory grows"
    with at_rest(module), backend.autocast():
        module(inputs)  # what is made once and kept must not count
        with nothing_free() as possible:
            if not possible:
                return "this system does not say what of a process's memory is in use"
            (PROC / "clear_refs").write_text("5")  # sets the mark back to what is resident now
            base = _peak()
            module(inputs)
            return _peak() - base


def _allocated(module: nn.Module, inputs: Tensor, backend: Backend) -> int:
    with at_rest(module), backend.autocast():
        module(inputs)
        _wait(backend)
        before = torch.cuda.memory_allocated(backend.device)
        torch.cuda.reset_peak_memory_stats(backend.device)
        module(inputs)
        _wait(backend)
    return int(torch.cuda.max_memory_allocated(backend.device) - before)


def _peak() -> int:
    """The kernel's mark: the most bytes that this process had resident since it was last set back."""
    (line,) = (line for line in (PROC / "status").read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def _wait(backend: Backend) -> None:
    if backend.device.type == "cuda":
        torch.cuda.synchronize(backend.device)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))

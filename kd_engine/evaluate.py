"""Measure a model: what it gets right, how close it is to its teacher, what it costs. It leaves the model
as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import torch
from safetensors.torch import save as to_bytes
from torch import nn

from kd_engine.backend import Backend
from kd_engine.data import Batches
from kd_engine.models import count_macs, count_parameters

BATCH = 256


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


def _wait(backend: Backend) -> None:
    if backend.device.type == "cuda":
        torch.cuda.synchronize(backend.device)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))

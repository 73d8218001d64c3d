"""An epoch of distillation on a GPU beside the reference's on the same GPU, and beside the bare student.

    python -m benchmarks.gpu [--pair resnet56:resnet20] [--batch 512] [--images 20480] [--repeats 5]

As `epoch`, in bf16, with a teacher that has said all and with `hardware.graph`; the same without is in the
note. The reference trains in float32 with cuDNN's own choice
of kernels and `--workers` loader processes (by default as many as cores, up to eight), as RepDistiller does.
The graphed floor is the student alone whose whole step is one CUDA graph: no launches from Python at all.
Without a GPU nothing is measured.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks import figures, loops
from benchmarks.epoch import ratios
from benchmarks.figures import Figure
from benchmarks.loops import Epochs, Pair

BEFORE_CAPTURE = 3  # steps, so that everything that is made lazily is there


def main() -> None:
    parser = figures.parser(__doc__)
    parser.add_argument("--pair", default="resnet56:resnet20")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--images", type=int, default=20_480)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    asked = parser.parse_args()
    if asked.small:
        asked.images, asked.repeats = 2 * asked.batch, 2
    figures.hand_over(measured(asked), asked.json)


def measured(asked: argparse.Namespace) -> list[Figure]:
    teacher, student = asked.pair.split(":")
    if not torch.cuda.is_available():
        return summed_up(f"{teacher} → {student}, batch {asked.batch}, bf16", None)
    torch.backends.cudnn.benchmark = True
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(teacher, student, asked.batch, asked.images, Path(folder), "cuda", "bf16", asked.workers)
        case = f"{pair.name}, batch {pair.batch}, bf16, {torch.cuda.get_device_name()}"
        return summed_up(case, timed(pair.write(), asked.repeats))


def timed(pair: Pair, repeats: int) -> dict[str, list[float]]:
    makers: dict[str, Callable[[], Epochs]] = {
        "floor": partial(loops.floor, pair),
        "graphed": partial(graphed_floor, pair),
        "launched": partial(loops.ours, pair),
        "warm": partial(loops.ours, replace(pair, graph=True)),
        "reference": partial(loops.reference, pair),
    }
    return loops.in_turn(makers, repeats)


def summed_up(case: str, times: dict[str, list[float]] | None) -> list[Figure]:
    """times: None where there is no GPU."""
    first, second = "reference ÷ warm epoch, on a GPU", "speed of the graphed floor, warm"
    if times is None:
        why = "no GPU"
        return [
            Figure(first, None, case=case, must=10, better="more", note=why),
            Figure(second, None, "%", case=case, aim=90, better="more", note=why),
        ]
    share = [100 * part for part in ratios(times["graphed"], times["warm"])]
    eager = figures.over("", ratios(times["launched"], times["floor"]))
    gained = figures.over("", ratios(times["launched"], times["warm"]))
    note = f"kernel by kernel ÷ floor: {figures.written(eager)}; ÷ replayed: {figures.written(gained)}"
    return [
        figures.over(first, ratios(times["reference"], times["warm"]), case=case, must=10, better="more"),
        figures.over(second, share, "%", case=case, aim=90, better="more", note=note),
    ]


def graphed_floor(pair: Pair) -> Epochs:
    """As `loops.floor`, with gather, forward, backward and optimizer captured once and replayed."""
    model = pair.model(pair.student).to(memory_format=torch.channels_last).train()
    x, y = pair.resident()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)
    rows = torch.arange(pair.batch, device=x.device)

    def step() -> None:
        with pair.autocast():
            logits = model(x[rows].contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, y[rows])
        loss.backward()
        optimizer.step()

    aside = torch.cuda.Stream()  # a capture wants what came before it on another stream than the default
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(BEFORE_CAPTURE):
            optimizer.zero_grad(set_to_none=True)
            step()
    torch.cuda.current_stream().wait_stream(aside)
    optimizer.zero_grad(set_to_none=True)  # gradients then live in the graph's own memory
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    first = True
    while True:
        started = pair.now()
        for part in torch.randperm(len(x), device=x.device).split(pair.batch):
            if len(part) == pair.batch:
                rows.copy_(part)
                graph.replay()
        seconds = pair.now() - started
        if not first:
            yield seconds
        first = False


if __name__ == "__main__":
    main()

"""What is settled for a process of ours: how long threads spin before they sleep, and whether freed memory
stays.

    python -m benchmarks.waiting [--students resnet8,mobilenetv2] [--batch 64] [--repeats 5] [--steps 6]

spin: steps of a student alone (forward, backward, SGD) with the spin that `kd run` asks for, over steps with
torch's own, which is long, and over steps that sleep at once; on the quiet machine, and beside a neighbour
that keeps one core busy. Below 1, ours is faster.

freed memory: an epoch of a session with a rival, which learn side by side, in a process that keeps what is
freed, over one that gives it back; both are of resnet8 at batch 128.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks import apart, figures, loops
from benchmarks.apart import Apart
from benchmarks.epoch import TEMPERATURES, ratios, rivals, soft
from benchmarks.figures import Figure
from benchmarks.loops import Epochs, Pair
from kd_engine.threads import SPINS

WAITS = {"torch's own": {}, "asleep at once": {"GOMP_SPINCOUNT": "0"}}


def main() -> None:
    parser = figures.parser(__doc__)
    parser.add_argument("--students", default="resnet8,mobilenetv2")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="that are timed at once")
    parser.add_argument("--images", type=int, default=2048, help="of an epoch with a rival")
    asked = parser.parse_args()
    if asked.small:
        asked.students, asked.batch, asked.repeats, asked.steps, asked.images = "resnet8", 8, 2, 2, 128
    figures.hand_over(measured(asked), asked.json)


def measured(asked: argparse.Namespace) -> list[Figure]:
    found = []
    for student in asked.students.split(","):
        for beside in ("on a quiet machine", "beside a busy neighbour"):
            with nullcontext() if "quiet" in beside else neighbour():
                times = apart.in_turn(waiting(student, asked.batch, asked.steps), asked.repeats)
            found += [
                figures.over(
                    f"step, {SPINS} spins ÷ {other}",
                    ratios(times["ours"], times[other]),
                    case=f"{student}, batch {asked.batch}, {beside}",
                )
                for other in WAITS
            ]
    return [*found, freed(asked.images, asked.repeats)]


def waiting(student: str, batch: int, steps: int) -> dict[str, Apart]:
    alone = partial(trained, student, batch, steps)
    others = {name: Apart(alone, ours=True, waits=waits) for name, waits in WAITS.items()}
    return {"ours": Apart(alone, ours=True), **others}


def trained(student: str, batch: int, steps: int) -> Epochs:
    """Seconds of so many steps, over and over."""
    torch.manual_seed(0)
    model = Pair(student, student, batch, batch, Path()).model(student).to(memory_format=torch.channels_last)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)
    for epoch in range(10**6):
        started = time.perf_counter()
        for _ in range(steps):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if epoch:
            yield time.perf_counter() - started


def freed(images: int, repeats: int) -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair("resnet20", "resnet8", 128, images, Path(folder)).write()
        session = partial(loops.ours, pair, soft(TEMPERATURES[0]), rivals(2))
        makers = {
            "kept": Apart(session, ours=True),
            "given back": Apart(session, ours=True, keeps=False),
        }
        times = apart.in_turn(makers, repeats)
    return figures.over(
        "epoch, freed memory kept ÷ given back",
        ratios(times["kept"], times["given back"]),
        case="resnet8 and a rival, batch 128",
    )


@contextmanager
def neighbour() -> Iterator[None]:
    """Somebody else, who keeps a core busy."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


if __name__ == "__main__":
    main()

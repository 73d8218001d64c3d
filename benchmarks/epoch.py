"""What an epoch of distillation costs beside the floor, and beside the way in which the references train.

    python -m benchmarks.epoch [--pairs resnet56:resnet20,...] [--batch 64,128] [--images 2048] [--repeats 4]

floor: the same student alone, plain PyTorch on a resident float tensor, channels-last, fused SGD, no teacher,
no augmentation, no figures. warm: a session with crop and flip, soft targets, every report and checkpoint
on, when the teacher has said all. filling: the first epoch of a new session, over the floor and one pass of
the teacher. reference: teacher forward at every step, PIL transforms for each sample in two loader workers,
`.item()` at every step, as RepDistiller and mdistiller do; it is timed in the first batch size. Other
methods, a student with a rival (beside two floors) and five rivals (one temperature each, beside five floors)
are timed for the first pair in the first batch size.

All of a pair are timed in turn, one epoch each, over and over: every ratio is of two neighbouring epochs.
Each runs in a process of its own: sessions in one that is set up as `kd run` sets up its own, floor, teacher
and reference in one as Python makes it (see `waiting` for what that is worth).
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import apart, figures, loops
from benchmarks.apart import Apart
from benchmarks.figures import Figure
from benchmarks.loops import KD, Pair

PAIRS = "resnet56:resnet20,wrn_40_2:wrn_16_1,resnet110:resnet8,vgg13:mobilenetv2"
FASTER = {"resnet56:resnet20": 2.3, "wrn_40_2:wrn_16_1": 4.1, "resnet110:resnet8": 6.3}  # reference ÷ ours
AT: tuple[dict[str, Any], ...] = ({"method": "at"},)
TEMPERATURES = (4.0, 1.0, 2.0, 8.0, 16.0)


def main() -> None:
    parser = figures.parser(__doc__)
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--batch", default="64,128")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--without-reference", action="store_true")
    asked = parser.parse_args()
    if asked.small:
        asked.pairs, asked.batch, asked.images, asked.repeats = "resnet20:resnet8", "64", 256, 2
    figures.hand_over(measured(asked), asked.json)


def measured(asked: argparse.Namespace) -> list[Figure]:
    found: list[Figure] = []
    for number, pair in enumerate(asked.pairs.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            sizes = [
                Pair(*pair.split(":"), int(batch), asked.images, Path(folder))
                for batch in asked.batch.split(",")
            ]
            sizes[0].write()
            for size in sizes:
                with_reference = size is sizes[0] and not asked.without_reference
                found += by_batch(size, FASTER.get(pair), asked.repeats, with_reference)
            if number == 0:
                found += by_methods(sizes[0], asked.repeats)
    return found


def by_batch(pair: Pair, faster: float | None, repeats: int, with_reference: bool) -> list[Figure]:
    """Warm, filling, and beside the reference."""
    makers = {
        "floor": Apart(partial(loops.floor, pair)),
        "warm": Apart(partial(loops.ours, pair), ours=True),
        "filling": Apart(partial(loops.filling, pair), ours=True),
        "teacher": Apart(partial(loops.teacher_pass, pair)),
    }
    if with_reference:
        makers["reference"] = Apart(partial(loops.reference, pair))
    times = apart.in_turn(makers, repeats)
    case, bounds = f"{pair.name}, batch {pair.batch}", {"must": 1.10, "aim": 1.03}
    once = [floor + teacher for floor, teacher in zip(times["floor"], times["teacher"], strict=True)]
    note = f"floor {min(times['floor']):.2f} s"
    found = [
        figures.over(
            "warm epoch ÷ floor", ratios(times["warm"], times["floor"]), case=case, note=note, **bounds
        ),
        figures.over(
            "filling epoch ÷ (floor + one teacher pass)", ratios(times["filling"], once), case=case, **bounds
        ),
    ]
    if with_reference:
        rate = ratios(times["reference"], times["warm"])
        most = ratios(times["reference"], times["floor"])
        note = f"the floor: {figures.number(sorted(most)[len(most) // 2])}×"
        found.append(
            figures.over("reference ÷ warm epoch", rate, case=case, must=faster, better="more", note=note)
        )
    return found


def by_methods(pair: Pair, repeats: int) -> list[Figure]:
    """Attention maps that are kept, and five rivals on one pass of the teacher."""
    sweep = partial(loops.ours, pair, soft(TEMPERATURES[0]))
    makers = {
        "floor": Apart(partial(loops.floor, pair)),
        "at": Apart(partial(loops.ours, pair, AT), ours=True),
        "kd + at": Apart(partial(loops.ours, pair, (*KD, *AT)), ours=True),
        "rival": Apart(partial(sweep, rivals(2)), ours=True),
        "rivals": Apart(partial(sweep, rivals(len(TEMPERATURES))), ours=True),
    }
    times = apart.in_turn(makers, repeats)
    case = f"{pair.name}, batch {pair.batch}"
    found = [
        figures.over(
            "cached maps, epoch ÷ floor",
            ratios(times[name], times["floor"]),
            case=f"{name}, {case}",
            must=1.25,
            aim=1.10,
        )
        for name in ("at", "kd + at")
    ]
    two = ratios(times["rival"], [2 * seconds for seconds in times["floor"]])
    five = ratios(times["rivals"], [len(TEMPERATURES) * seconds for seconds in times["floor"]])
    note = "they learn side by side"
    found.append(figures.over("student and rival ÷ two floors", two, case=case, note=note))
    found.append(figures.over("five rivals ÷ five floors", five, case=case, must=1.10, aim=0.8, note=note))
    return found


def rivals(students: int) -> list[dict[str, Any]]:
    """A sweep over temperatures: so many students in all, the recipe's own among them."""
    return [
        {"name": f"T = {heat:g}", "label_weight": 0.1, "methods": list(soft(heat))}
        for heat in TEMPERATURES[1:students]
    ]


def soft(temperature: float) -> tuple[dict[str, Any], ...]:
    return ({"method": "kd", "temperature": temperature},)


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Of neighbours in time."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


if __name__ == "__main__":
    main()

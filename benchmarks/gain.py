"""Does distillation help? Run a recipe over several seeds and print what the student gains over its rival.

    python -m benchmarks.gain [RECIPE] [--seeds 5] [--runs DIR]

Each seed chooses the labelled samples, the validation part, the initial weights and the order of batches.
Accuracies are of the last weights on the test part, which nothing else touches; the interval is Student's t
over the paired differences.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from kd_engine import Recipe, Session
from kd_engine.events import STUDENT, RunDone


def one_seed(name: str, seed: int, runs: Path) -> tuple[float, float, float]:
    """Test accuracy of student, first rival and teacher, in percent."""
    recipe = Recipe.load(name).with_changes({"seed": seed, "data.seed": seed, "stages.0.snapshots": False})
    *_, event = Session(recipe, runs)
    if not isinstance(event, RunDone):
        raise SystemExit(f"seed {seed}: {event}")
    students = event.summary["students"]
    rival = next(name for name in students if name != STUDENT)
    top1 = (students[STUDENT], students[rival])
    return (
        *(100 * figures["top1_test_last"] for figures in top1),
        100 * event.summary["teacher"]["top1_test"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", nargs="?", default="quickstart")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = []
        print(f"{asked.recipe}: top-1 on the test part, %\nseed  student  rival  teacher   gain")
        for seed in range(asked.seeds):
            student, rival, teacher = one_seed(asked.recipe, seed, asked.runs or Path(temporary))
            rows.append((student, rival, teacher))
            print(
                f"{seed:4d}  {student:7.2f}  {rival:5.2f}  {teacher:7.2f}  {student - rival:+5.2f}",
                flush=True,
            )
    table = np.array(rows)
    gains = table[:, 0] - table[:, 1]
    mean, error = gains.mean(), gains.std(ddof=1) / np.sqrt(len(gains))
    half = stats.t.ppf(0.975, len(gains) - 1) * error
    print(
        f"mean  {table[:, 0].mean():7.2f}  {table[:, 1].mean():5.2f}  {table[:, 2].mean():7.2f}  {mean:+5.2f}"
    )
    interval = f"{mean - half:+.2f} to {mean + half:+.2f}"
    print(f"gain {mean:+.2f} points, 95 % interval {interval} over {len(gains)} seeds")


if __name__ == "__main__":
    main()

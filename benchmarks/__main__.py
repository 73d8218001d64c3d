"""Run every benchmark and write down what it measured: `make bench`.

    python -m benchmarks [--only NAME ...] [--small] [--folder benchmarks]

Modules run one after the other, each in a process of its own. Their figures go to results.json, and the page
RESULTS.md and its pictures are made from that: so `--only` repeats one module and leaves the figures of the
others, and `--only none` writes the page anew. Ends with an error when a module broke off.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import figures, ledger, page, pictures
from benchmarks.ledger import Entry

HERE = Path(__file__).parent
MODULES = ("epoch", "stacked", "waiting", "step", "memory", "growth", "gpu", "start", "window", "store")
NONE = "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--only",
        nargs="+",
        choices=(*MODULES, NONE),
        default=list(MODULES),
        metavar="NAME",
        help=", ".join(MODULES),
    )
    parser.add_argument(
        "--small", action="store_true", help="sizes that show whether it works; the figures mean nothing"
    )
    parser.add_argument(
        "--folder", type=Path, help="where the results go; default: benchmarks, with --small build/benchmarks"
    )
    asked = parser.parse_args()
    folder = asked.folder or (HERE.parent / "build" / "benchmarks" if asked.small else HERE)
    failed = []
    for name in asked.only:
        if name == NONE:
            continue
        print(f"== {name}", flush=True)
        entry = run(name, asked.small)
        record(folder, {name: entry})
        failed += [name] if entry.failed else []
    record(folder, {})
    print(f"\n{folder / 'RESULTS.md'}")
    if failed:
        sys.exit(f"broke off: {', '.join(failed)}")


def run(module: str, small: bool = False) -> Entry:
    """One module, in a process of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [
            sys.executable,
            "-m",
            f"benchmarks.{module}",
            "--json",
            str(file),
            *(["--small"] if small else []),
        ]
        done = subprocess.run(command, cwd=HERE.parent, check=False)
        why = "" if done.returncode == 0 and file.exists() else f"exit code {done.returncode}, no figures"
        found = () if why else tuple(figures.read(file))
    seconds = time.monotonic() - began
    return Entry(found, ledger.machine(), ledger.versions(), ledger.today(), seconds, why, small)


def record(folder: Path, made: Mapping[str, Entry]) -> None:
    """Put the new figures into the ledger, and write the page and its pictures from it."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = ledger.merged(ledger.read(folder / "results.json"), made)
    entries = {name: entries[name] for name in (*MODULES, *entries) if name in entries}
    ledger.write(folder / "results.json", entries)
    drawn = {"results.svg": pictures.results(entries), "growth.svg": pictures.growth(entries)}
    for name, picture in drawn.items():
        if picture is not None:
            (folder / name).write_text(picture, encoding="utf-8")
    names = [name for name, picture in drawn.items() if picture is not None]
    (folder / "RESULTS.md").write_text(page.page(entries, names), encoding="utf-8")


if __name__ == "__main__":
    main()

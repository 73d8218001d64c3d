"""Tables of several runs for people and for other programs: on the console, as Markdown, CSV and JSON, each
with the protocol under it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kd_engine.advise import Advice
from kd_engine.bench_table import FIGURES, StudentFigures, Table
from kd_engine.disk import replacing
from kd_engine.events import STUDENT
from kd_engine.report import console, table
from kd_engine.statistics import Gain, Spread

Cells = Sequence[Sequence[str]]

# A column's head, the figure, and by what it is multiplied to be shown.
COLUMNS = (
    ("last %", "top1_test_last", 100),
    ("best %", "top1_test_best", 100),
    ("agreement %", "agreement", 100),
    ("retention %", "retention", 100),
    ("KL nats", "kl", 1),
)


def show_bench(found: Table) -> None:
    """The means on the console, what went wrong, and the protocol."""
    heads, cells = _means(found)
    table(heads, cells, left=(0,))
    out = console()
    out.print()
    for line in found.problems:
        out.print(f"! {line}", style="yellow")
    for line in found.protocol:
        out.print(line, style="dim")


def write_bench(found: Table, folder: Path) -> list[Path]:
    """bench.md, bench.csv (the means), runs.csv (one row a seed and student) and bench.json. StoreError when
    the disk refuses."""
    return [
        write_text(folder / "bench.md", _markdown(found)),
        write_csv(folder / "bench.csv", *_summary_rows(found)),
        write_csv(folder / "runs.csv", *_run_rows(found)),
        write_text(folder / "bench.json", _json(found.to_json())),
    ]


def show_advice(found: Advice) -> None:
    """The findings on the console, the verdict, and the protocol."""
    heads, cells = _findings(found)
    table(heads, cells, left=(0,))
    out = console()
    out.print()
    for line in found.words:
        out.print(line)
    out.print()
    for line in found.protocol:
        out.print(line, style="dim")


def write_advice(found: Advice, folder: Path) -> list[Path]:
    """advice.md, advice.csv and advice.json. StoreError when the disk refuses."""
    parts = [
        f"# {found.name}\n",
        markdown_table(*_findings(found)),
        "".join(f"{line}\n\n" for line in found.words),
        "".join(f"- {line}\n" for line in found.protocol),
    ]
    heads = ["temperature", "weight", "label_weight", "own", "top1_validation", "error", "kl", "agreement"]
    rows = [
        [
            *((s.temperature, s.weight, s.label_weight) if (s := finding.setting) else (None, None, 1.0)),
            int(finding.own),
            *(finding.top1, finding.error, finding.kl, finding.agreement),
        ]
        for finding in found.findings
    ]
    return [
        write_text(folder / "advice.md", "\n".join(parts)),
        write_csv(folder / "advice.csv", heads, rows),
        write_text(folder / "advice.json", _json(found.to_json())),
    ]


def markdown_table(heads: Sequence[str], cells: Cells) -> str:
    """A table in Markdown, the first column to the left; what was named by users stays in its cell."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *cells]
    return "".join(f"| {' | '.join(_escaped(cell) for cell in line)} |\n" for line in lines)


def write_text(file: Path, text: str) -> Path:
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file


def write_csv(file: Path, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """None is an empty cell; floats are written so that they read back as they were."""
    with replacing(file) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(heads)
        writer.writerows(rows)
    return file


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _findings(found: Advice) -> tuple[list[str], list[list[str]]]:
    """behind: points behind the best; chance: what such a difference must exceed."""
    heads = ["setting", "validation %", "KL nats", "agreement %", "behind", "chance"]
    cells = []
    for finding in found.findings:
        kl, agreement = finding.kl, finding.agreement
        cells.append(
            [
                finding.name + (" (the recipe's own)" if finding.own else ""),
                f"{100 * finding.top1:.1f} ± {100 * finding.error:.1f}",
                "" if kl is None else f"{kl:.4f}",
                "" if agreement is None else f"{100 * agreement:.1f}",
                f"{100 * finding.behind:.1f}",
                f"{100 * finding.noise:.1f}" if finding.behind else "",
            ]
        )
    return heads, cells


def _means(found: Table) -> tuple[list[str], list[list[str]]]:
    """Only columns that some student has a figure for; best weights are kept of the recipe's own student."""
    there = [
        column
        for column in COLUMNS
        if any(student.figures[column[1]] is not None for student in found.students)
    ]
    heads = ["student", *(head for head, *_ in there)]
    gains = found.baseline is not None
    if gains:
        heads.append(f"gain over {found.baseline}")
    cells = []
    for student in found.students:
        line = [student.student, *(_spread(student.figures[name], scale) for _, name, scale in there)]
        cells.append([*line, _gain(student.gain)] if gains else line)
    return heads, cells


def _spread(value: Spread | None, scale: float) -> str:
    if value is None:
        return ""
    digits = 2 if scale == 100 else 4
    mean = f"{scale * value.mean:.{digits}f}"
    return mean if value.sd is None else f"{mean} ± {scale * value.sd:.{digits}f}"


def _gain(gain: Gain | None) -> str:
    if gain is None:
        return ""
    mean = f"{100 * gain.spread.mean:+.2f}"
    if gain.interval is None:
        return mean
    low, high = (100 * end for end in gain.interval)
    return f"{mean} [{low:+.2f}, {high:+.2f}]"


def _markdown(found: Table) -> str:
    parts = [f"# {found.name}\n", markdown_table(*_means(found))]
    if found.problems:
        parts.append("".join(f"- **{line}**\n" for line in found.problems))
    parts.append("".join(f"- {line}\n" for line in found.protocol))
    parts.append("## Run by run: top-1 on the test part, last weights, %\n")
    parts.append(markdown_table(*_by_seed(found)))
    return "\n".join(parts)


def _by_seed(found: Table) -> tuple[list[str], list[list[str]]]:
    names = [student.student for student in found.students]
    heads = ["seed", *names]
    seeds = dict.fromkeys(row.seed for row in found.rows)
    shown = {(row.seed, row.student): row for row in found.rows}
    cells = []
    for seed in seeds:
        top1 = [shown[seed, name].figures["top1_test_last"] for name in names]
        status = shown[seed, STUDENT].status
        cells.append([str(seed), *(status if value is None else f"{100 * value:.2f}" for value in top1)])
    return heads, cells


def _summary_rows(found: Table) -> tuple[list[str], list[list[Any]]]:
    figures = [f"{name}_{part}" for name in FIGURES for part in ("mean", "sd")]
    heads = ["student", "n", *figures, "gain_over", "gain_mean", "gain_sd", "gain_low95", "gain_high95"]
    return heads, [_summary_row(student, found.baseline) for student in found.students]


def _summary_row(student: StudentFigures, baseline: str | None) -> list[Any]:
    spreads = [student.figures[name] for name in FIGURES]
    last = student.figures["top1_test_last"]
    line: list[Any] = [student.student, last.n if last else 0]
    for value in spreads:
        line += [None, None] if value is None else [value.mean, value.sd]
    gain = student.gain
    if gain is None:
        return [*line, None, None, None, None, None]
    return [*line, baseline, gain.spread.mean, gain.spread.sd, *(gain.interval or (None, None))]


def _run_rows(found: Table) -> tuple[list[str], list[list[Any]]]:
    heads = ["seed", "student", "status", *FIGURES, "gain", "run", "message"]
    rows = [
        [
            row.seed,
            row.student,
            row.status,
            *(row.figures[name] for name in FIGURES),
            row.gain,
            row.run,
            row.message,
        ]
        for row in found.rows
    ]
    return heads, rows


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")

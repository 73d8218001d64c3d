"""What a bench found: one row per seed and student, means with their spread, and the protocol that belongs
under every table.

Read from the runs' own summaries; accuracies are fractions of the test part. A run without an end has its
rows too, with the reason in place of figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kd_engine.bench_plan import Cell, Plan
from kd_engine.events import STUDENT
from kd_engine.statistics import Gain, Spread, paired, spread
from kd_engine.store import ENVIRONMENT, SUMMARY, RunFolder, Store
from kd_engine.summary import percent

NO_KD = "no KD"
FIGURES = ("top1_test_last", "top1_test_best", "top1_validation_best", "agreement", "kl", "retention")


@dataclass(frozen=True)
class Row:
    """One student of one seed's run. status: see bench_plan.Cell; message: why there are no figures, in the
    row of the student that is to blame, or in all. gain: over the baseline, same seed."""

    seed: int
    student: str
    run: str
    status: str
    message: str
    figures: Mapping[str, float | None]
    gain: float | None


@dataclass(frozen=True)
class StudentFigures:
    """One student over all finished runs. gain: over the baseline, paired by seed; None for the baseline."""

    student: str
    figures: Mapping[str, Spread | None]
    gain: Gain | None


@dataclass(frozen=True)
class Table:
    """baseline: whom the others are measured against, None where the recipe has nobody to. protocol: what
    everybody who shows the table must say under it. problems: runs without figures, in words."""

    name: str
    fingerprint: str
    baseline: str | None
    rows: tuple[Row, ...]
    students: tuple[StudentFigures, ...]
    protocol: tuple[str, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; accuracies, agreement and gains are fractions, kl nats."""
        return {"version": 1, **asdict(self)}


def make_table(plan: Plan, seeds: Sequence[int], store: Store) -> Table:
    """The table of these seeds, from what the store holds of their runs."""
    cells = [plan.cell(seed) for seed in seeds]
    summaries = {cell.seed: _summary(cell, store) for cell in cells}
    names, baseline = _names(plan.document, summaries.values()), find_baseline(plan.document)
    rows = tuple(
        _row(cell, name, summaries[cell.seed].get("students", {}), baseline)
        for cell in cells
        for name in names
    )
    problems = tuple(_problem(cell) for cell in cells if cell.status != "done")
    done = [cell for cell in cells if cell.status == "done"]
    return Table(
        name=plan.name,
        fingerprint=plan.fingerprint,
        baseline=baseline,
        rows=rows,
        students=tuple(_over_seeds(name, rows, baseline) for name in names),
        protocol=(
            *_about_figures(plan, [cell.seed for cell in done], len(cells), baseline, len(names)),
            *_about_runs(plan, done, [summaries[cell.seed] for cell in done], store),
        ),
        problems=problems,
    )


def find_baseline(document: Mapping[str, Any]) -> str | None:
    """The first rival named "no KD", or the first without methods; None where there is none."""
    rivals = document["stages"][-1].get("rivals", ())
    plain = [rival["name"] for rival in rivals if not rival.get("methods")]
    named = [rival["name"] for rival in rivals if rival["name"] == NO_KD]
    return next(iter((*named, *plain)), None)


def _names(document: Mapping[str, Any], summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Those of the recipe, who may have come to no figures, and whoever else has some."""
    rivals = [rival["name"] for rival in document["stages"][-1].get("rivals", ())]
    there = [name for summary in summaries for name in summary.get("students", {})]
    return list(dict.fromkeys((STUDENT, *rivals, *there)))


def _summary(cell: Cell, store: Store) -> dict[str, Any]:
    if cell.status != "done":
        return {}
    return RunFolder(store.root / cell.run).read_json(SUMMARY) or {}


def _row(cell: Cell, name: str, students: Mapping[str, Any], baseline: str | None) -> Row:
    told = students.get(name, {})
    figures = {figure: told.get(figure) for figure in FIGURES}
    gain = None
    if baseline is not None and name != baseline and baseline in students:
        gain = told["top1_test_last"] - students[baseline]["top1_test_last"]
    message = cell.message if cell.student in ("", name) else f"stopped with the run: see {cell.student}"
    return Row(cell.seed, name, cell.run, cell.status, message, figures, gain)


def _over_seeds(name: str, rows: Sequence[Row], baseline: str | None) -> StudentFigures:
    mine = [row for row in rows if row.student == name and row.status == "done"]
    figures = {figure: _spread(row.figures[figure] for row in mine) for figure in FIGURES}
    if baseline is None or name == baseline:
        return StudentFigures(name, figures, None)
    theirs = {row.seed: row for row in rows if row.student == baseline}
    pairs = [(_last(row), _last(theirs[row.seed])) for row in mine]
    return StudentFigures(name, figures, paired([a for a, _ in pairs], [b for _, b in pairs]))


def _last(row: Row) -> float:
    value = row.figures["top1_test_last"]
    assert value is not None, f"{row.run}: done, without figures"
    return value


def _spread(values: Iterable[float | None]) -> Spread | None:
    """None unless every run has the figure."""
    found = list(values)
    there = [value for value in found if value is not None]
    return spread(there) if len(there) == len(found) else None


# -- what must stand under the table -----------------------------------------------------------------------


def _problem(cell: Cell) -> str:
    what = {
        "missing": "not begun",
        "interrupted": "stopped before its end",
        "nan": "a loss became no number",
        "failed": "failed",
        "changed": "left out",
    }[cell.status]
    who = f" ({cell.student})" if cell.student else ""
    where = f", run {cell.run}" if cell.run else ""
    return f"seed {cell.seed}{where}: {what}{who}" + (f": {cell.message}" if cell.message else "")


def _about_figures(
    plan: Plan, done: Sequence[int], asked: int, baseline: str | None, students: int
) -> list[str]:
    epochs = plan.document["stages"][-1]["epochs"]
    lines = [
        "Accuracies are top-1 on the test part, which each run touches once, at its end, and which chose "
        "nothing.",
        f"last: the weights after the last epoch, {epochs} of {epochs}. "
        + (
            "best: the weights of the epoch that was best on the validation part, "
            f"{percent(plan.document['data']['validation'])} of the training part."
            if plan.document["data"]["validation"]
            else "There is no validation part, so best is last."
        ),
        f"n = {len(done)} seeds ({_some(done)}), each with all students side by side on one teacher pass and "
        "the same batches; mean ± standard deviation over seeds (n - 1).",
    ]
    if len(done) < asked:
        lines.append(
            f"{asked - len(done)} of {asked} runs have no figures and are not in the means: a mean over "
            "those that went well flatters."
        )
    if baseline is None:
        lines.append("No gain: the recipe has no rival without methods to measure it against.")
    else:
        many = students - 2
        lines.append(
            f"gain: points over '{baseline}' of the same seed, last weights; in brackets the 95 % interval, "
            "Student's t of the paired differences"
            + (f", not corrected for {many + 1} comparisons." if many > 0 else ".")
        )
    lines.append(
        "agreement: share of test images with the teacher's answer; retention: accuracy over the teacher's."
    )
    return lines


def _about_runs(
    plan: Plan, done: Sequence[Cell], summaries: Sequence[Mapping[str, Any]], store: Store
) -> list[str]:
    first = plan.document["data"]["seed"]
    chosen = "which chooses validation part, subset and labelled samples"
    data = f"the data seed (from {first} up), {chosen}" if plan.vary_data else ""
    fixed = "" if plan.vary_data else f" The same for all: data seed {first}, {chosen}."
    varied = ", ".join(filter(None, ("initial weights", "the order of batches", "the views", data)))
    lines = [f"What varies from seed to seed: {varied}.{fixed}"]
    lines += _about_teacher(plan, summaries)
    found = [RunFolder(store.root / cell.run).read_json(ENVIRONMENT) or {} for cell in done]
    machines = list(dict.fromkeys(map(_machine, found)))
    if len(machines) > 1:
        lines.append(f"The runs were NOT made on one machine: {len(machines)} differ.")
    lines += [f"Machine: {machine}." for machine in machines]
    lines.append(f"Recipe '{plan.name}', fingerprint {plan.fingerprint}; runs in {store.root}.")
    return lines


def _about_teacher(plan: Plan, summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    section = plan.document.get("teacher")
    found = [summary["teacher"]["top1_test"] for summary in summaries if summary.get("teacher")]
    if section is None or not found:
        return []
    name = f"Teacher: {section['model']} ({section['weights'] or 'no weights: random ones'})"
    same = list(dict.fromkeys(found))
    if len(same) == 1:
        return [f"{name}, {100 * same[0]:.2f} % on the test part."]
    return [f"{name}: NOT the same in all runs, {', '.join(f'{100 * top1:.2f} %' for top1 in same)}."]


def _machine(environment: Mapping[str, Any]) -> str:
    versions = environment.get("versions", {})
    told = [f"{name} {versions[name]}" for name in sorted(versions)]
    threads = environment.get("threads", "?")
    return ", ".join(
        (
            f"{environment.get('device', '?')} ({environment.get('device_name', '?')})",
            f"{threads} CPU thread{'' if threads == 1 else 's'} a run",
            f"Python {environment.get('python', '?')}",
            *told,
        )
    )


def _some(seeds: Sequence[int]) -> str:
    """Numbers in words: 0 to 4, or each by name where some are missing."""
    if not seeds:
        return "none"
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))

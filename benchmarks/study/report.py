"""Write docs/study.md and its pictures from the cells of the study: tables, gains with intervals, curves.

    python -m benchmarks.study.report

What a person has to say of the figures stands in docs/study/remarks.md and is taken in as it is.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.chart import Bar, intervals, lines
from benchmarks.study.cells import CELLS, PLAIN, SEEDS, read_cells
from kd_engine.statistics import Gain, paired, spread

DOCS = CELLS.parents[1]
KD = "kd"
Figures = Mapping[int, Mapping[str, Any]]  # by seed

# CIFAR-100 top-1, resnet56 to resnet20, 240 epochs: RepDistiller's README (last epoch), then, after the first
# five, the papers' own (best epoch). For the order only: data, classes and length are others here.
PUBLISHED = {
    PLAIN: 69.06, "kd": 70.66, "fitnet": 69.21, "at": 70.55, "sp": 69.67, "crd": 71.16,
    "dkd": 71.97, "dist": 71.75, "kd, standardised": 71.43,
}  # fmt: skip


def write(cells: Mapping[str, Mapping[str, Any]], docs: Path = DOCS) -> None:
    """Make the page and its pictures anew, in the folder `docs`."""
    settings: dict[str, dict[str, dict[int, Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    recipes: dict[str, Mapping[str, Any]] = {}
    for cell in cells.values():
        settings[cell["setting"]][cell["contender"]][cell["seed"]] = cell["figures"]
        if cell["contender"] == PLAIN:
            recipes[cell["setting"]] = cell["recipe"]
    page = [_head()]
    for setting in SEEDS:
        if PLAIN in settings[setting]:
            page.append(_setting(setting, settings[setting], recipes[setting], docs / "study"))
    page.append(_against_the_literature(settings))
    page.append(_at_less_weight(settings, docs / "study" / "weights.json"))
    remarks = docs / "study" / "remarks.md"
    page.append(remarks.read_text(encoding="utf-8") if remarks.exists() else "")
    (docs / "study.md").write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")
    print(f"wrote {docs / 'study.md'}")


def _head() -> str:
    return """# Which methods help, and by how much?

Written by `python -m benchmarks.study --cifar FOLDER --teacher FILE`, from the recipes in
`benchmarks/study/recipes`; cell by cell in [study/cells.jsonl](study/cells.jsonl). The same command on a CPU
gives the same figures bit for bit (`--again` compares).

**Protocol.** Top-1 on the test part, which a run touches once, at its end; weights of the *last* epoch; mean
± standard deviation over seeds, which vary initial weights and the order of batches. Gains are paired by
seed, with Student's 95 % interval; they are not corrected for the number of methods. *Best* is the epoch that
was best on the validation part. Every method has its published weight and settings (see
`benchmarks/study/recipes/contenders.json`): nothing was tuned here. Methods with a first stage (ab, fsp, ft)
spend a quarter of the epochs on it (ft at the published learning rate of 0.01 for it, since at the others'
its paraphraser diverges on scenes); `assistant` and `born-again` train two students and so take twice as
long. These runs are short: they tell who learns faster from little, not who ends highest after 240 epochs.
*Pull* is the length of the gradient of a method's weighted loss over that of the label loss, on one batch at
the initial weights (`python -m benchmarks.study.pull`).
"""


def _setting(name: str, contenders: Mapping[str, Figures], recipe: Mapping[str, Any], folder: Path) -> str:
    """A setting's table, pictures (into the folder) and verdict."""
    plain = contenders[PLAIN]
    rows = []
    for contender, figures in contenders.items():
        over_plain, over_kd = _gain(figures, plain), _gain(figures, contenders.get(KD, {}))
        rows.append((contender, figures, over_plain, over_kd))
    rows.sort(key=lambda row: -_mean(row[1], "top1"))
    teacher = next((f["teacher"] for f in plain.values() if f["status"] == "done"), float("nan"))
    stage, data = recipe["stages"][0], recipe["data"]
    labels = f"{data['labels_per_class']} labels a class" if data.get("labels_per_class") else "all labels"
    what = "; ".join(
        (
            f"{recipe['teacher']['model']} ({100 * teacher:.1f} %) to {recipe['student']['model']}",
            f"{labels}, {data.get('subset') or 'all'} training images",
            f"{data['validation']:.0%} of them for validation",
            f"{data['augment']}, {data['views']} views",
            f"{stage['epochs']} epochs at batch {stage['batch_size']}",
            f"sgd, learning rate {stage['optimizer']['lr']}, cosine",
            f"{len(plain)} seeds.",
        )
    )
    heads = (
        "method",
        "top-1, last",
        "best on validation",
        "over plain",
        "over kd",
        "same as the teacher",
        "pull",
    )
    pulls = _pulls(folder).get(name, {})
    table = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for contender, figures, over_plain, over_kd in rows:
        cells = [contender, _spread(figures, "top1"), _spread(figures, "best")]
        cells += ["" if contender == PLAIN else _told(over_plain), "" if contender == KD else _told(over_kd)]
        cells += [_spread(figures, "agreement"), f"{pulls[contender]:.1f}" if contender in pulls else ""]
        table.append("| " + " | ".join(cells) + " |")
    bars = [
        Bar(contender, gain.spread.mean, gain.interval, gain.clear and gain.spread.mean > 0)
        for contender, _, gain, _ in rows
        if gain is not None and contender != PLAIN
    ]
    pictures = {
        f"{name}-gains": intervals(bars, f"{name}: points over plain training", ""),
        f"{name}-curves": lines(_curves(contenders, rows), f"{name}: top-1 on validation, %", "epoch"),
    }
    for file, svg in pictures.items():
        (folder / f"{file}.svg").write_text(svg, encoding="utf-8")
    shown = "\n".join(f"![{file}](study/{file}.svg)" for file in pictures)
    title = recipe["name"].removesuffix(f": {PLAIN}")
    return "\n\n".join((f"## {title}", what, "\n".join(table), shown, _verdict(rows))) + "\n"


def _pulls(folder: Path) -> dict[str, dict[str, float]]:
    """By setting and contender; see benchmarks.study.pull."""
    file = folder / "pull.json"
    found: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}
    return found


def _verdict(rows: list[tuple[str, Figures, Gain | None, Gain | None]]) -> str:
    told_apart = sum(gain is not None and gain.interval is not None for _, _, gain, _ in rows)
    if told_apart < len(rows) / 2:
        return "One seed so far: what is chance and what is not cannot be told yet."
    better = [name for name, _, gain, _ in rows if gain and gain.clear and gain.spread.mean > 0]
    worse = [name for name, _, gain, _ in rows if gain and gain.clear and gain.spread.mean < 0]
    open_ = [name for name, _, gain, _ in rows if gain and not gain.clear and name != PLAIN]
    broken = [
        f"{name} ({sum(f['status'] != 'done' for f in figures.values())} of {len(figures)})"
        for name, figures, *_ in rows
        if any(f["status"] != "done" for f in figures.values())
    ]
    told = [f"Clearly better than plain training: {', '.join(better) or 'none'}."]
    told.append(f"Clearly worse: {', '.join(worse) or 'none'}.")
    told.append(f"No clear difference: {', '.join(open_) or 'none'}.")
    if broken:
        told.append(f"Ended in a loss that is no number: {', '.join(broken)}; the figures are of the others.")
    return " ".join(told)


def _against_the_literature(settings: Mapping[str, Mapping[str, Figures]]) -> str:
    """The order of the main methods beside the published one."""
    found = settings.get("cifar10-resnet20", {})
    common = [name for name in PUBLISHED if name in found and _gain(found[name], found[PLAIN])]
    if len(common) < 4:
        return ""
    ours = {name: 100 * _mean(found[name], "top1") for name in common}
    ranked = sorted(common, key=lambda name: -ours[name])
    rows = [f"| {name} | {ours[name]:.1f} | {PUBLISHED[name]:.2f} |" for name in ranked]
    return "\n".join(
        (
            "## Beside the literature\n",
            "resnet56 to resnet20, CIFAR-10 here (a subset, a few epochs), CIFAR-100 and 240 epochs there "
            "(RepDistiller's README at the last epoch; dkd, dist and standardised kd from their papers at "
            "the best). Only the order can be "
            f"compared: Spearman's rank correlation is {_agreement(found, common):+.2f} over {len(common)} "
            f"students; {_agreement(settings['cifar10-resnet8'], common):+.2f} for resnet8 above, which has "
            "more steps.\n",
            "| method | here, % | published, % |\n|---|---|---|",
            *rows,
            "",
        )
    )


def _agreement(found: Mapping[str, Figures], common: list[str]) -> float:
    """Spearman's, of the means with the published figures."""
    from scipy.stats import spearmanr

    ours = [_mean(found[name], "top1") for name in common]
    return float(spearmanr(ours, [PUBLISHED[name] for name in common]).statistic)


def _at_less_weight(settings: Mapping[str, Mapping[str, Figures]], file: Path) -> str:
    """Some contenders at a share of their weights beside the study's; see benchmarks.study.weights."""
    if not file.exists():
        return ""
    told = json.loads(file.read_text(encoding="utf-8"))
    rows = []
    for setting in (name for name in SEEDS if name in told["top1"]):
        plain = settings[setting][PLAIN]
        for name, by_seed in sorted(told["top1"][setting].items()):
            light: Figures = {int(seed): {"status": "done", "top1": top1} for seed, top1 in by_seed.items()}
            whole = {seed: settings[setting][name][seed] for seed in light}
            beside = {seed: plain[seed] for seed in light}
            shown = (_spread(of, "top1") for of in (beside, whole, light))
            rows.append(f"| {setting} | {name} | " + " | ".join(shown) + " |")
    return "\n".join(
        (
            "## At less weight\n",
            f"Some that trail, at {told['share']} of their published weights; first seed, all else the same "
            "(`python -m benchmarks.study.weights`).\n",
            "| setting | method | plain | published weight | less |\n|---|---|---|---|---|",
            *rows,
            "",
        )
    )


def _gain(figures: Figures, others: Figures) -> Gain | None:
    """Percentage points over others, paired by seed."""
    seeds = [s for s in figures if s in others and figures[s]["status"] == others[s]["status"] == "done"]
    pairs = ([100 * of[seed]["top1"] for seed in seeds] for of in (figures, others))
    return paired(*pairs)


def _curves(contenders: Mapping[str, Figures], rows: list[Any]) -> dict[str, list[float]]:
    """Means over seeds: of the six best, plain and kd."""
    chosen = [name for name, *_ in rows][:6]
    chosen += [name for name in (KD, PLAIN) if name in contenders and name not in chosen]
    drawn = {}
    for name in chosen:
        curves = [figures["curve"] for figures in contenders[name].values() if figures["status"] == "done"]
        if curves:
            shortest = min(map(len, curves))
            drawn[name] = [100 * sum(curve[i] for curve in curves) / len(curves) for i in range(shortest)]
    return drawn


def _values(figures: Figures, name: str) -> list[float]:
    return [f[name] for f in figures.values() if f["status"] == "done" and f.get(name) is not None]


def _mean(figures: Figures, name: str) -> float:
    found = spread(_values(figures, name))
    return found.mean if found else float("-inf")


def _spread(figures: Figures, name: str) -> str:
    found = spread([100 * value for value in _values(figures, name)])
    if found is None:
        return "none"
    return f"{found.mean:.1f}" + (f" ± {found.sd:.1f}" if found.sd is not None else "")


def _told(gain: Gain | None) -> str:
    if gain is None:
        return ""
    interval = f" ({gain.interval[0]:+.1f} to {gain.interval[1]:+.1f})" if gain.interval else ""
    value = f"{gain.spread.mean:+.1f}"
    return f"**{value}**{interval}" if gain.clear else f"{value}{interval}"


if __name__ == "__main__":  # only the page, from the cells that there are
    write(read_cells())

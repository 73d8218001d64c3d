"""What goes with a model's weights: a card of plain values, in the file's header and, for people, as
Markdown beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kd_engine import weights
from kd_engine.data import Data
from kd_engine.errors import WeightsError
from kd_engine.recipe import ModelSection
from kd_engine.summary import FIGURES, count, percent

KEY = "kd_card"  # of the card in a safetensors header
PER_CLASS = 100  # more classes than these are not listed one by one


@cache
def _versions() -> dict[str, str]:
    """Read once: a card is made for every checkpoint."""
    return {name: version(name) for name in ("kd-studio", "torch")}


def make(section: ModelSection, data: Data, **more: Any) -> dict[str, Any]:
    """model, knobs, classes, input (size, mean, std: what the model expects of images scaled to 0 ... 1),
    data (images in each part, and how many of the training part had a label), and `more`."""
    return {
        "model": section.model,
        "knobs": section.more,
        "classes": list(data.classes),
        "input": {"size": data.size, "mean": list(data.mean), "std": list(data.std)},
        "data": {
            "train": len(data.train),
            "labelled": int(data.labelled.sum()),
            "validation": len(data.validation),
            "test": len(data.test),
        },
        "made_with": dict(_versions()),
        **more,
    }


def to_metadata(card: Mapping[str, Any]) -> dict[str, str]:
    return {KEY: json.dumps(card)}  # ASCII: a name may hold letters that no encoding has


def read(path: Path) -> dict[str, Any] | None:
    """The card in a safetensors file's header; None when it has none that can be used, or when it is another
    kind of file."""
    if path.suffix != ".safetensors":
        return None
    try:
        text = weights.read_metadata(path).get(KEY)
        card = json.loads(text) if text else None
    except (WeightsError, ValueError, RecursionError):
        return None
    return card if isinstance(card, dict) and _whole(card) else None


def conflicts(card: Mapping[str, Any], data: Data) -> list[str]:
    """Where a model's card contradicts the data it is used on: such a model runs, and answers nonsense.
    Nothing for no card."""
    found: list[str] = []
    if not card:
        return found
    if list(card["classes"]) != list(data.classes) and len(card["classes"]) == len(data.classes):
        found.append(f"its classes are {_few(card['classes'])}, the data's {_few(data.classes)}")
    theirs, ours = card["input"], {"mean": list(data.mean), "std": list(data.std)}
    for name in ("mean", "std"):
        if any(abs(a - b) > 1e-3 for a, b in zip(theirs[name], ours[name], strict=True)):
            found.append(f"it was trained on inputs with {name} {theirs[name]}, the data has {ours[name]}")
    return found


def to_markdown(card: Mapping[str, Any], load_code: str) -> str:
    """The card for people: what the model is, how good, how large, how to load it, how it was made."""
    return "\n".join([*_head(card), *_quality(card), *_loading(card, load_code), *_making(card)]) + "\n"


def _whole(card: Mapping[str, Any]) -> bool:
    """Whether what every reader relies on is there, and of the right kind: the file may be from anywhere."""
    inputs, classes = card.get("input"), card.get("classes")
    return (
        isinstance(card.get("model"), str)
        and isinstance(card.get("knobs"), dict)
        and isinstance(card.get("figures", {}), dict)
        and isinstance(classes, list)
        and len(classes) > 0
        and all(isinstance(name, str) for name in classes)
        and isinstance(inputs, dict)
        and type(inputs.get("size")) is int
        and 0 < inputs["size"] <= 4096
        and all(_triple(inputs.get(name)) for name in ("mean", "std"))
    )


def _triple(values: Any) -> bool:
    return (
        isinstance(values, list) and len(values) == 3 and all(type(value) in (int, float) for value in values)
    )


def _head(card: Mapping[str, Any]) -> Iterator[str]:
    size, classes = card["input"]["size"], card["classes"]
    yield f"# {card.get('title') or card.get('name') or card['model']}"
    yield ""
    does = f"Says which of {len(classes)} classes an RGB image of {size}×{size} pixels shows."
    yield f"{does} {card.get('note', '')}".rstrip()
    yield ""
    settings = ", ".join(f"{name} {value}" for name, value in card["knobs"].items())
    yield "| | |"
    yield "|---|---|"
    yield f"| architecture | {card['model']}{f' ({settings})' if settings else ''} |"
    if card.get("graft"):
        yield "| last layer | its teacher's, behind a projector that learned to feed it |"
    yield f"| takes | RGB images (N, 3, {size}, {size}), values 0 to 1 |"
    yield f"| gives | scores (N, {len(classes)}), one column a class, before softmax |"
    yield f"| classes, in this order | {_few(classes, PER_CLASS)} |"


def _quality(card: Mapping[str, Any]) -> Iterator[str]:
    """The rows of figures; who measured them, on what; then class by class."""
    figures, tested = card.get("figures", {}), card.get("data", {}).get("test")
    for name, (label, written, _) in FIGURES.items():
        value = figures.get(name)
        if isinstance(value, (int, float)) and math.isfinite(value):
            yield f"| {label} | {written(value)}{_spread(value, tested) if name == 'top1' else ''} |"
    yield ""
    if "top1" not in figures:
        yield "Not measured on a test part: the run had not ended. `kd evaluate RUN` measures it."
        return
    images = f"{count(tested)} images of the test part" if tested else "test part"
    yield f"Measured once, after training, on the {images}, which took no part in training or in"
    yield f"choosing an epoch.{_where_timed(card)}"
    per_class = card.get("per_class") or []
    if 0 < len(per_class) <= PER_CLASS:
        yield from ("", "| class | found (recall) | right when named (precision) | F1 | images |")
        yield "|---|---|---|---|---|"
        for name, found in zip(card["classes"], per_class, strict=True):
            shares = " | ".join(percent(found[measure]) for measure in ("recall", "precision", "f1"))
            yield f"| {_plain(name)} | {shares} | {found['support']} |"


def _loading(card: Mapping[str, Any], load_code: str) -> Iterator[str]:
    yield from ("", "## Load it", "", "```python", load_code, "```", "")
    yield "Put the path to where the file lies now. The normalisation that it was trained with is part of the"
    yield "model. It answers for any image, also for one that shows none of its classes."


def _making(card: Mapping[str, Any]) -> Iterator[str]:
    data = card.get("data") or {}
    yield from ("", "## How it was made", "")
    if data:
        labelled = "all" if data["labelled"] == data["train"] else f"only {count(data['labelled'])}"
        held = (
            f" {count(data['validation'])} more were held out to watch progress."
            if data["validation"]
            else ""
        )
        yield (
            f"Trained on {card.get('dataset', 'a dataset')}: {count(data['train'])} images, {labelled} of "
            f"them with their label.{held}"
        )
    made = ", ".join(f"{name} {number}" for name, number in card["made_with"].items())
    yield f"Made with {made}."
    if card.get("changes"):
        yield from ("", "While it ran, these were changed by hand:", "")
        for change in card["changes"]:
            yield f"- after step {change['step']}: {change['path']} from {change['old']} to {change['new']}"
    if card.get("recipe"):
        recipe = json.dumps(card["recipe"], indent=1, ensure_ascii=False)
        yield from ("", "Save this recipe as `recipe.json`; `kd run recipe.json` repeats it.", "", "```json")
        yield from (recipe, "```")


def _spread(top1: float, tested: Any) -> str:
    """How far chance alone moves an accuracy: its standard error, in points."""
    if not isinstance(tested, int) or tested < 1:
        return ""
    return f" ± {100 * math.sqrt(top1 * (1 - top1) / tested):.1f} (standard error)"


def _where_timed(card: Mapping[str, Any]) -> str:
    machine = card.get("machine") or {}
    if "latency_ms_p50" not in card.get("figures", {}) or not machine:
        return ""
    threads = f", {machine['threads']} threads" if machine.get("device") == "cpu" else ""
    return f" Timed on {machine.get('device_name') or machine.get('device')}{threads}."


def _few(names: Any, count: int = 4) -> str:
    listed = [_plain(name) for name in names]
    return ", ".join(listed[:count]) + (f" and {len(listed) - count} more" if len(listed) > count else "")


def _plain(name: Any) -> str:
    """A class's name as a cell of a table."""
    return str(name).replace("|", "\\|").replace("\n", " ")

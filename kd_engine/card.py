"""What goes with a model's weights: a card of plain values, in the file's header and, for people, as
Markdown beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kd_engine import weights
from kd_engine.data import Data
from kd_engine.errors import WeightsError
from kd_engine.recipe import ModelSection

KEY = "kd_card"  # of the card in a safetensors header


def make(section: ModelSection, data: Data, **more: Any) -> dict[str, Any]:
    """model, knobs, classes, input (size, mean, std: what the model expects of images scaled to 0 ... 1),
    and `more`."""
    return {
        "model": section.model,
        "knobs": section.more,
        "classes": list(data.classes),
        "input": {"size": data.size, "mean": list(data.mean), "std": list(data.std)},
        "made_with": {"kd-studio": version("kd-studio"), "torch": version("torch")},
        **more,
    }


def to_metadata(card: Mapping[str, Any]) -> dict[str, str]:
    return {KEY: json.dumps(card, ensure_ascii=False)}


def read(path: Path) -> dict[str, Any] | None:
    """The card in a safetensors file's header; None when it has none, or when it is another kind of file."""
    if path.suffix != ".safetensors":
        return None
    try:
        text = weights.read_metadata(path).get(KEY)
        card = json.loads(text) if text else None
    except (WeightsError, ValueError):
        return None
    return card if isinstance(card, dict) else None


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
    """The card for people."""
    lines = [f"# {card.get('name') or card['model']}", ""]
    if card.get("note"):
        lines += [str(card["note"]), ""]
    size = card["input"]["size"]
    rows = {
        "architecture": f"{card['model']} {_settings(card['knobs'])}".strip(),
        "input": f"RGB images, {size}×{size} pixels, values 0 to 1",
        "classes": _few(card["classes"], 12),
        **{name: _figure(name, value) for name, value in card.get("figures", {}).items()},
        "trained on": card.get("trained_on", ""),
        "made with": ", ".join(f"{name} {number}" for name, number in card["made_with"].items()),
    }
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items() if value)]
    lines += ["", "## Load it", "", "```python", load_code, "```"]
    if card.get("recipe"):
        recipe = json.dumps(card["recipe"], indent=1, ensure_ascii=False)
        lines += [
            "",
            "## How it was made",
            "",
            "`kd run` repeats it from this recipe:",
            "",
            "```json",
            recipe,
            "```",
        ]
    return "\n".join(lines) + "\n"


def _few(names: Any, count: int = 4) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:count]) + (f" and {len(listed) - count} more" if len(listed) > count else "")


def _settings(knobs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in knobs.items())


def _figure(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and ("top1" in name or name in ("retention", "agreement")):
        return f"{value:.1%}"
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
    )

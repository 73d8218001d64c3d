"""The trained models that come with the program, told from their files' headers: what each is and what it was
trained on.

Reads the cards without torch; kd_engine.card writes them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_engine import paths

_KEY = "kd_card"  # as kd_engine.card.KEY, whose module imports torch
_LONGEST = 100_000_000  # bytes of a header; the format's own limit


@dataclass(frozen=True)
class Bundled:
    """weights: as a recipe names them. knobs: the settings that its model was built with."""

    name: str
    model: str
    dataset: str
    knobs: Mapping[str, Any]

    @property
    def weights(self) -> str:
        return f"bundled:{self.name}"


def teachers() -> Path:
    """Where they lie."""
    return paths.resources() / "teachers"


def bundled() -> list[Bundled]:
    """All that have a readable card, by name."""
    found = []
    for file in sorted(teachers().glob("*.safetensors")):
        if (card := _card(file)) is not None:
            dataset = card.get("recipe", {}).get("data", {}).get("dataset", "")
            found.append(Bundled(file.stem, str(card["model"]), dataset, card.get("knobs", {})))
    return found


def teacher_for(dataset: str, model: str) -> Bundled | None:
    """One that was trained on `dataset`: of `model` if there is such a one, else of any; None if there is
    none."""
    fit = [one for one in bundled() if one.dataset == dataset]
    return min(fit, key=lambda one: one.model != model, default=None)


def _card(file: Path) -> dict[str, Any] | None:
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(length)) if length <= _LONGEST else {}
        card = json.loads(header.get("__metadata__", {}).get(_KEY, "null"))
    except (OSError, ValueError, struct.error, AttributeError):
        return None  # not a file of ours: the check and the engine say so when it is used
    return card if isinstance(card, dict) and "model" in card else None

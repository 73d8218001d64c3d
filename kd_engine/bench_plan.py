"""What a bench is about, as a file in its folder: the recipe, what varies, and the run of each seed.

The plan is what makes a bench resumable: it is written before a run begins and after it ends.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from kd_engine.disk import replacing, told
from kd_engine.errors import Problem, RecipeError, StoreError, shown
from kd_engine.recipe import Recipe
from kd_engine.store import RunFolder

PLAN = "plan.json"
VERSION = 1
LABELS = ("name", "note")  # what a recipe is called changes no figure

Status = Literal["missing", "interrupted", "done", "nan", "failed", "changed"]


@dataclass
class Cell:
    """The run of one seed. student: whose loss became no number; message: what went wrong.

    missing: not begun; changed: somebody changed a setting of it while it ran.
    """

    seed: int
    run: str = ""
    status: Status = "missing"
    student: str = ""
    message: str = ""

    def forget(self) -> None:
        """There is no such run any more."""
        self.run, self.status, self.student, self.message = "", "missing", "", ""


class Plan:
    """A bench's folder, its recipe (a complete document), and its cells, by seed. `open` makes one."""

    def __init__(self, folder: Path, document: dict[str, Any], vary_data: bool, cells: list[Cell]) -> None:
        self.folder = folder
        self.document = document
        self.vary_data = vary_data
        self._cells = {cell.seed: cell for cell in cells}

    @classmethod
    def open(cls, folder: Path, document: dict[str, Any], vary_data: bool) -> Plan:
        """The plan in this folder, or a new one. document: see `settled`.

        RecipeError, with every difference, when the folder holds the bench of another recipe; StoreError when
        what is there cannot be read.
        """
        file = folder / PLAN
        if not file.exists():
            return cls(folder, document, vary_data, [])
        stored = _read(file)
        before = Recipe.from_document(stored["recipe"]).document()  # in today's words
        found = [
            Problem(path, f"was {shown(was)}, is now {shown(now)}")
            for path, was, now in differences(before, document)
            if path not in LABELS
        ]
        if stored["vary_data"] != vary_data:
            found.append(Problem("--vary-data", "was given before" if stored["vary_data"] else "is new"))
        if found:
            way = f"{folder} holds the bench of another recipe. Choose another --out, or leave it away"
            raise RecipeError([*found, Problem("--out", way)])
        known = [field.name for field in fields(Cell)]
        cells = [Cell(**{name: run[name] for name in known}) for run in stored["runs"]]
        return cls(folder, document, vary_data, cells)

    @property
    def name(self) -> str:
        return str(self.document["name"])

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.document, self.vary_data)

    def seeds(self, count: int) -> list[int]:
        """So many, from the recipe's own."""
        return [int(self.document["seed"]) + k for k in range(count)]

    def cell(self, seed: int) -> Cell:
        return self._cells.setdefault(seed, Cell(seed))

    def document_of(self, seed: int) -> dict[str, Any]:
        """The recipe of one seed's run."""
        document: dict[str, Any] = json.loads(json.dumps(self.document))
        if self.vary_data:
            document["data"]["seed"] += seed - document["seed"]
        document["seed"] = seed
        return document

    def require_own(self, cell: Cell, run: RunFolder) -> None:
        """StoreError when this stored run is not what the plan says it is."""
        found = Recipe.from_document(run.recipe()).document()
        expected = self.document_of(cell.seed)
        apart = [path for path, *_ in differences(found, expected) if path not in LABELS]
        if apart:
            raise StoreError(
                f"{run.folder}: the plan calls it the run of seed {cell.seed}, but its recipe differs in "
                f"{', '.join(apart[:3])}.",
                f"Remove {self.folder / PLAN}, or choose another --out.",
            )

    def save(self) -> None:
        content = {
            "version": VERSION,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "vary_data": self.vary_data,
            "recipe": self.document,
            "runs": [asdict(self._cells[seed]) for seed in sorted(self._cells)],
        }
        with replacing(self.folder / PLAN) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def settled(recipe: Recipe) -> dict[str, Any]:
    """A recipe's document with everything fixed that figures could otherwise depend on: one CPU thread,
    unless it says how many, since sums of floats depend on it. No snapshots: a bench draws nothing."""
    document = recipe.document()
    document["hardware"]["threads"] = document["hardware"]["threads"] or 1
    for stage in document["stages"]:
        stage["snapshots"] = False
    return document


def fingerprint(document: Mapping[str, Any], *more: object) -> str:
    """Eight hexadecimal digits of all that a figure can depend on."""
    telling = {name: value for name, value in document.items() if name not in LABELS}
    text = json.dumps([telling, *more], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def folder_name(kind: str, document: Mapping[str, Any], *more: object) -> str:
    """As in bench-digits-1f2e3d4c: the same for the same request."""
    slug = re.sub(r"[^a-z0-9]+", "-", str(document["name"]).lower()).strip("-")[:32]
    return "-".join(filter(None, (kind, slug, fingerprint(document, *more))))


def differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two documents differ: dotted path, and what either says (None for nothing)."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in dict.fromkeys((*one, *other)):
            yield from differences(one.get(name), other.get(name), f"{path}.{name}" if path else name)
    elif _is_list(one) and _is_list(other) and len(one) == len(other):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{path}.{i}" if path else str(i))
    elif one != other:
        yield path, one, other


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _read(file: Path) -> dict[str, Any]:
    """StoreError for what is no plan."""
    with told(file):
        text = file.read_text(encoding="utf-8", errors="replace")
    try:
        stored = json.loads(text)
        if stored["version"] > VERSION:
            raise StoreError(f"{file}: made by a newer version of kd-studio.", "Update kd-studio to go on.")
        _ = stored["recipe"], stored["vary_data"], [run["seed"] for run in stored["runs"]]
    except (ValueError, TypeError, KeyError):
        raise StoreError(f"{file}: not a bench's plan.", "Remove it, or choose another --out.") from None
    return dict(stored)

"""What to run, frozen and JSON: everything needed to repeat a run.

A recipe comes from a document (a dict, as in a file): kd_engine.check names every problem at once,
`complete` fills in the defaults, `Recipe` is the frozen result. All read the knobs from the catalog: a new
plug-in needs no edit here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from kd_engine import catalog as catalogs
from kd_engine import paths
from kd_engine.catalog import Catalog
from kd_engine.errors import Problem, RecipeError, did_you_mean
from kd_engine.knobs import Knob, Knobs, knob, knobs_of

VERSION = 1


class DataKnobs(Knobs):
    """What is done with a dataset before training; the dataset's own knobs stand beside these."""

    labels_per_class: int | None = knob(
        None,
        "So many training samples of each class keep their label; the rest are seen without. Null: all.",
        low=1,
    )
    validation: float = knob(0.1, "Share of the training part held out to watch progress.", low=0, high=0.5)
    subset: int | None = knob(None, "Use only so many training samples, evenly by class. Null: all.", low=2)
    augment: Literal["none", "flip", "crop", "crop-flip"] = knob(
        "crop-flip", "Random changes that make each image look new: shifted by a padded crop, mirrored."
    )
    erase: float = knob(
        0.0, "Probability that a rectangle of a view is painted over, as in random erasing.", low=0, high=1
    )
    mix: Literal["none", "mixup", "cutmix"] = knob(
        "none",
        "Another image, and its label, is mixed into each view: both blended (mixup), or a rectangle of it "
        "pasted in (cutmix).",
    )
    mix_alpha: float = knob(
        1.0,
        "How evenly two images are mixed, Beta(alpha, alpha). 1: all shares are equally likely; towards 0: "
        "hardly mixed.",
        low=0.05,
        high=10,
        scale="log",
        advanced=True,
    )
    views: int = knob(16, "How many augmented views of each image exist.", low=1, high=10_000, scale="log")
    normalize: Literal["auto", "imagenet", "half"] = knob(
        "auto", "Mean and deviation of the inputs: the dataset's own, ImageNet's, or 0.5.", advanced=True
    )
    seed: int = knob(
        0, "Chooses the validation part, the subset and the labelled samples.", low=0, advanced=True
    )
    memory_mb: int = knob(
        2048,
        "Images beyond this stay on disk.",
        low=16,
        high=1_000_000,
        unit="MB",
        scale="log",
        advanced=True,
    )


class SgdKnobs(Knobs):
    lr: float = knob(0.05, "Learning rate.", label="Learning rate", low=0, high=10, scale="log", live=True)
    momentum: float = knob(0.9, "Share of the last step kept in the next.", low=0, high=0.999)
    weight_decay: float = knob(5e-4, "Pull of the weights towards zero.", low=0, high=1, scale="log")
    nesterov: bool = knob(False, "Look ahead along the momentum.", advanced=True)


class AdamWKnobs(Knobs):
    lr: float = knob(1e-3, "Learning rate.", label="Learning rate", low=0, high=1, scale="log", live=True)
    weight_decay: float = knob(
        0.05, "Decoupled pull of the weights towards zero.", low=0, high=1, scale="log"
    )
    beta1: float = knob(0.9, "Memory of the gradient's mean.", low=0, high=0.9999, advanced=True)
    beta2: float = knob(0.999, "Memory of the gradient's square.", low=0, high=0.99999, advanced=True)


class ScheduleKnobs(Knobs):
    warmup_epochs: float = knob(0, "The learning rate climbs from 0 over so many epochs.", low=0, high=1000)


class StepKnobs(ScheduleKnobs):
    milestones: str = knob("0.625,0.75,0.875", "Shares of the training after which the rate falls.")
    factor: float = knob(0.1, "What the rate is multiplied by at each milestone.", low=0, high=1)


class CosineKnobs(ScheduleKnobs):
    final: float = knob(0.0, "Share of the rate that is left at the end.", low=0, high=1, advanced=True)


OPTIMIZERS: dict[str, type[Knobs]] = {"sgd": SgdKnobs, "adamw": AdamWKnobs}
SCHEDULES: dict[str, type[Knobs]] = {"constant": ScheduleKnobs, "step": StepKnobs, "cosine": CosineKnobs}


class RecipeKnobs(Knobs):
    """What stands at the top of a recipe."""

    name: str = knob("untitled", "What the run is called.")
    note: str = knob("", "What it is for, in a sentence.")
    seed: int = knob(0, "Chooses initial weights, the order of batches and the views.", low=0, high=2**31 - 1)


class HardwareKnobs(Knobs):
    device: Literal["auto", "cpu", "cuda", "mps"] = knob(
        "auto", "Where to compute; auto takes the fastest there is."
    )
    precision: Literal["32", "bf16", "fp16"] = knob("32", "Number format; 16 bits need a GPU.")
    graph: bool = knob(
        False,
        "Record a training step once and launch it whole, as a CUDA graph. The numbers stay the same; small "
        "networks are faster. Needs an Nvidia GPU.",
        advanced=True,
    )
    devices: int = knob(1, "How many devices.", low=1, high=1, advanced=True)
    nodes: int = knob(1, "How many machines.", low=1, high=1, advanced=True)
    threads: int | None = knob(
        None,
        "CPU threads. Null: all cores, or what a short measurement at the start of a long run finds faster.",
        low=1,
        high=256,
        advanced=True,
    )
    cache: Literal["off", "memory", "disk"] = knob(
        "disk",
        "Keep what the teacher says of each view of an image, in half precision, so that it is run once: on "
        "disk, for later runs too; in memory, for this run; or not at all.",
        advanced=True,
    )
    cache_mb: int = knob(
        4096,
        "Room for the answers of all teachers together; a run may take half of it. Least recently used ones "
        "go first.",
        low=16,
        high=10_000_000,
        unit="MB",
        scale="log",
        advanced=True,
    )


class _Section(BaseModel):
    """A part of a recipe. What a plug-in adds stands in `more`, by name."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    @property
    def more(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class DataSection(DataKnobs):
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())
    dataset: str

    @property
    def more(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ModelSection(_Section):
    model: str
    weights: str | None = None


class NamedSection(_Section):
    """An optimizer or a schedule."""

    name: str


class MethodSection(_Section):
    method: str
    weight: float


class RivalSection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    label_weight: float
    methods: tuple[MethodSection, ...] = ()


class StageSection(_Section):
    stage: str
    epochs: int
    batch_size: int
    optimizer: NamedSection
    schedule: NamedSection
    label_weight: float = 1.0
    methods: tuple[MethodSection, ...] = ()
    rivals: tuple[RivalSection, ...] = ()
    student: ModelSection | None = None  # an assistant: a model of this stage's own, which teaches the next


class Recipe(RecipeKnobs):
    """A checked, completed, frozen recipe. Make one with `load`, `from_document` or `with_changes`."""

    version: Literal[1] = 1
    data: DataSection
    teacher: ModelSection | None = None
    more_teachers: tuple[ModelSection, ...] = ()  # whom methods for several teachers hear beside `teacher`
    student: ModelSection
    stages: tuple[StageSection, ...]
    hardware: HardwareKnobs = HardwareKnobs()

    @classmethod
    def load(cls, name: str | Path) -> Recipe:
        """A preset by name, or a recipe file. RecipeError with every problem."""
        return cls.from_document(read_document(name))

    @classmethod
    def from_document(cls, document: Mapping[str, Any], catalog: Catalog | None = None) -> Recipe:
        """The recipe that `document` describes. RecipeError with every problem."""
        from kd_engine.check import check  # check reads the classes below, so it is imported late

        catalog = catalog or catalogs.load()
        if problems := check(document, catalog):
            raise RecipeError(problems)
        return cls(**complete(document, catalog))

    def with_changes(self, changes: Mapping[str, Any]) -> Recipe:
        """The same with other values at dotted paths, checked again."""
        document = self.document()
        for path, value in changes.items():
            set_at(document, path, value)
        return self.from_document(document)

    def document(self) -> dict[str, Any]:
        """As plain JSON-able values; a copy."""
        # exclude_unset: a stage says nothing of the parts that it does not take
        plain: dict[str, Any] = self.model_dump(mode="json", exclude_unset=True)
        return plain


@dataclass(frozen=True)
class LiveKnob:
    """A knob that may change while a run is live, where it stands and what it is set to."""

    path: str
    owner: str  # the method, stage or optimizer it belongs to, by name
    knob: Knob
    value: Any


def preset_files() -> dict[str, Path]:
    """The bundled recipes by name, `quickstart` first."""
    files = {file.stem: file for file in sorted((paths.resources() / "recipes").glob("*.json"))}
    return dict(sorted(files.items(), key=lambda item: (item[0] != "quickstart", item[0])))


def read_document(name: str | Path) -> dict[str, Any]:
    """The document of a preset or a file, unchecked. RecipeError when there is none, or when it is not
    JSON."""
    presets = preset_files()
    file = Path(presets.get(str(name), name))
    try:
        if file.is_dir():
            file = file / "recipe.json"
        document = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        known = ", ".join(presets)
        near = did_you_mean(str(name), presets)
        raise RecipeError(
            [Problem("", f"no recipe '{name}'{near}: not a file, and the presets are {known}")]
        ) from None
    except RecursionError:
        raise RecipeError([Problem(str(file), "not a recipe: nested too deep")]) from None
    except (
        ValueError
    ) as error:  # no JSON, no text, a number of thousands of digits, a null in the file's name
        raise RecipeError([Problem(str(file), f"not a JSON file: {error}")]) from None
    except OSError as error:
        raise RecipeError([Problem(str(file), f"cannot be read: {error.strerror}")]) from None
    if not isinstance(document, dict):
        raise RecipeError([Problem(str(file), "not a recipe: expected a JSON object")])
    return document


def complete(document: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """A copy of a checked document in which every knob has a value."""
    full: dict[str, Any] = {"version": VERSION, **_defaults(knobs_of(RecipeKnobs)), **_copy(document)}
    data = full["data"]
    full["data"] = {
        **_defaults(knobs_of(DataKnobs)),
        **_defaults(catalog.knobs("datasets", data["dataset"])),
        **data,
    }
    for role in ("teacher", "student"):
        full[role] = None if full.get(role) is None else _complete_model(full[role], catalog)
    if full.get("more_teachers"):
        full["more_teachers"] = [_complete_model(model, catalog) for model in full["more_teachers"]]
    full["stages"] = [_complete_stage(stage, catalog) for stage in full["stages"]]
    full["hardware"] = {**_defaults(knobs_of(HardwareKnobs)), **full.get("hardware", {})}
    return full


def live_knobs(document: Mapping[str, Any], catalog: Catalog) -> list[LiveKnob]:
    """Every live knob of a completed document, methods first, in the order in which a form should show
    them."""
    found = []
    for i, stage in enumerate(document["stages"]):
        where = f"stages.{i}"
        for j, method in enumerate(stage.get("methods", ())):
            name = method["method"]
            found += _live(catalog.knobs("methods", name), method, f"{where}.methods.{j}", name)
        found += _live(catalog.knobs("stages", stage["stage"]), stage, where, stage["stage"])
        optimizer = stage["optimizer"]
        found += _live(
            catalog.knobs("optimizers", optimizer["name"]), optimizer, f"{where}.optimizer", optimizer["name"]
        )
    return found


def get_at(document: Any, path: str) -> Any:
    """The value at a dotted path. KeyError, IndexError or ValueError when there is no such place."""
    for part in path.split("."):
        document = document[_index(part)] if isinstance(document, Sequence) else document[part]
    return document


def set_at(document: dict[str, Any], path: str, value: Any) -> None:
    """Put `value` at a dotted path, in place; missing objects on the way are made. An error when it
    leads through a value or past the end of a list."""
    *way, last = path.split(".")
    place: Any = document
    for part in way:
        place = place[_index(part)] if isinstance(place, list) else place.setdefault(part, {})
    if isinstance(place, list):
        place[_index(last)] = value
    else:
        place[last] = value


def parse_change(text: str) -> tuple[str, Any]:
    """`path=value` from a command line. The value is read as JSON where it is JSON, else it is a text."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise RecipeError([Problem(text, "expected path=value, as in stages.0.epochs=3")])
    try:
        return path, json.loads(value)
    except (ValueError, RecursionError):
        return path, value


def _index(part: str) -> int:
    """A place in a list, counted from 0: one place has one name, so none is counted from the end."""
    if not part.isdecimal():
        raise ValueError(f"{part!r} is no place in a list")
    return int(part)


def _complete_model(section: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    return {"weights": None, **_defaults(catalog.model_knobs(section["model"])), **section}


def _complete_stage(stage: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    entry = catalog.entry("stages", stage["stage"])
    full = {**_defaults(entry.knobs), **stage}
    for kind, default in (("optimizer", "sgd"), ("schedule", "cosine")):
        section = full.get(kind, {"name": default})
        full[kind] = {**_defaults(catalog.knobs(f"{kind}s", section["name"])), **section}
    if full.get("student") is not None:
        full["student"] = _complete_model(full["student"], catalog)
    if "methods" in entry.facts["parts"]:
        full["methods"] = [_complete_method(method, catalog) for method in full.get("methods", ())]
    if "rivals" in entry.facts["parts"]:
        full["rivals"] = [
            {**rival, "methods": [_complete_method(m, catalog) for m in rival.get("methods", ())]}
            for rival in full.get("rivals", ())
        ]
    return full


def _complete_method(method: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    return {**_defaults(catalog.knobs("methods", method["method"])), **method}


def _defaults(knobs: Sequence[Knob]) -> dict[str, Any]:
    return {knob.name: knob.default for knob in knobs}


def _live(knobs: Sequence[Knob], values: Mapping[str, Any], path: str, owner: str) -> list[LiveKnob]:
    return [
        LiveKnob(f"{path}.{knob.name}", owner, knob, values.get(knob.name, knob.default))
        for knob in knobs
        if knob.live
    ]


def _copy(document: Mapping[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(document))
    return copied

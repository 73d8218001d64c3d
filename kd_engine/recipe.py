"""What to run, frozen and JSON: everything needed to repeat a run.

A recipe comes from a document (see kd_engine.document): kd_engine.check names every problem at once, the
defaults are filled in, `Recipe` is the frozen result.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from kd_engine import catalog as catalogs
from kd_engine.catalog import Catalog
from kd_engine.document import complete, read_document, set_at
from kd_engine.errors import RecipeError
from kd_engine.recipe_knobs import DataKnobs, HardwareKnobs, RecipeKnobs


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

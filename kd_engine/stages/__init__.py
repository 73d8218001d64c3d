"""Stages of a recipe: which students learn from what. A stage only plans; the one training loop is
kd_engine.session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from kd_engine.events import STUDENT
from kd_engine.knobs import Knobs, knob
from kd_engine.recipe import MethodSection, StageSection
from kd_engine.registry import Plugin


class StageKnobs(Knobs):
    """What every stage has."""

    epochs: int = knob(10, "How often the student sees every image.", low=1, high=10_000, scale="log")
    batch_size: int = knob(128, "Images in one optimizer step.", low=1, high=65_536, scale="log")
    snapshots: bool = knob(True, "Keep what the student sees after each epoch.", advanced=True)
    start: Literal["continue", "fresh"] = knob(
        "continue",
        "In a later stage: go on with the weights of the stage before, or begin anew, as a born-again "
        "student does. A student of another architecture always begins anew.",
        advanced=True,
    )


def label_weight(default: float) -> Any:
    """The knob of stages that have methods beside the label loss."""
    return knob(
        default,
        "How much the plain label loss counts beside the methods.",
        label="Label loss",
        low=0,
        high=10,
        scale="log",
        live=True,
        unit="weight",
    )


@dataclass(frozen=True)
class Learner:
    """One student of a stage. path: where its weights stand in the recipe, so that live knobs find it.

    labels_only: it learns from labels alone, on batches of labelled samples where some labels are withheld:
    as many steps as the others, so that the comparison is fair to it. peer: it is one of a class that teach
    each other; all but the recipe's own start from weights of their own.
    """

    name: str
    path: str
    label_weight: float
    methods: tuple[MethodSection, ...]
    labels_only: bool
    peer: bool = False


class Stage(Plugin):
    """Base of all stages."""

    Knobs: ClassVar[type[Knobs]] = StageKnobs
    needs_teacher: ClassVar[bool] = False
    needs_methods: ClassVar[bool] = False
    parts: ClassVar[tuple[str, ...]] = (
        "optimizer",
        "schedule",
        "student",
    )  # structured settings it takes beside its knobs

    @classmethod
    def learners(cls, stage: StageSection, path: str) -> list[Learner]:
        """The students to train side by side, the recipe's own first."""
        raise NotImplementedError(cls)

    @classmethod
    def facts(cls) -> dict[str, Any]:
        return {
            "needs_teacher": cls.needs_teacher,
            "needs_methods": cls.needs_methods,
            "parts": list(cls.parts),
        }


Base = Stage


def learner(name: str, path: str, label_weight: float, methods: tuple[MethodSection, ...]) -> Learner:
    """A learner that is `labels_only` when it has no methods."""
    return Learner(name or STUDENT, path, label_weight, methods, labels_only=not methods)


def rivals(stage: StageSection, path: str) -> list[Learner]:
    """The rivals that the recipe names."""
    return [
        learner(rival.name, f"{path}.rivals.{i}", rival.label_weight, rival.methods)
        for i, rival in enumerate(stage.rivals)
    ]

"""The settings that every recipe has, whatever its plug-ins: of data, optimizers, schedules, hardware."""

from __future__ import annotations

from typing import Literal

from kd_engine.knobs import Knobs, knob


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
        label="Memory",
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
        label="CUDA graph",
        advanced=True,
    )
    devices: int = knob(1, "How many devices.", low=1, high=1, advanced=True)
    nodes: int = knob(1, "How many machines.", low=1, high=1, advanced=True)
    threads: int | None = knob(
        None,
        "CPU threads, shared by students that learn side by side. Null: all cores, or what a short "
        "measurement at the start of a long run finds faster.",
        low=1,
        high=256,
        advanced=True,
    )
    side_by_side: bool = knob(
        True,
        "On a CPU, a student and its rivals learn at the same time, each on its share of the threads, rather "
        "than one after the other on all of them.",
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
        label="Cache size",
        low=16,
        high=10_000_000,
        unit="MB",
        scale="log",
        advanced=True,
    )

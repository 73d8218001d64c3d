"""A small catalog, experiment and facts, made by hand: what panels show when they run alone, and what their
tests use.

Nothing here is read while the window works; it spares demos and tests the engine and its torch.
"""

from __future__ import annotations

from typing import Any

from kd_engine.catalog import Catalog, Entry
from kd_engine.knobs import Knob, knobs_of
from kd_engine.recipe_knobs import OPTIMIZERS, SCHEDULES


def catalog() -> Catalog:
    """A few of everything, with the settings that the engine's own plug-ins have."""
    named = [
        *(Entry("optimizers", name, name, "", knobs_of(knobs)) for name, knobs in OPTIMIZERS.items()),
        *(Entry("schedules", name, name, "", knobs_of(knobs)) for name, knobs in SCHEDULES.items()),
    ]
    return Catalog((*_data_and_models(), *_methods(), *_stages(), *named))


def document() -> dict[str, Any]:
    """An experiment that this catalog can run."""
    return {
        "version": 1,
        "name": "Digits, 10 labels a class",
        "seed": 0,
        "data": {"dataset": "digits", "labels_per_class": 10, "augment": "crop"},
        "teacher": {"model": "resnet20", "weights": None},
        "student": {"model": "resnet8", "weights": None},
        "stages": [
            {
                "stage": "distill",
                "epochs": 15,
                "batch_size": 128,
                "optimizer": {"name": "sgd", "lr": 0.05},
                "schedule": {"name": "cosine", "warmup_epochs": 1},
                "label_weight": 0.1,
                "methods": [
                    {"method": "at", "weight": 1000.0},
                    {"method": "kd", "weight": 0.9, "temperature": 4.0},
                ],
                "rivals": [{"name": "no KD", "label_weight": 1.0, "methods": []}],
            }
        ],
    }


def facts() -> dict[str, Any]:
    """As the engine answers "describe"."""
    return {
        "problems": [],
        "teacher": {
            "model": "resnet20",
            "parameters": 272_474,
            "macs": 40_800_000,
            "bytes": 1_100_000,
            "top1": 0.975,
        },
        "student": {
            "model": "resnet8",
            "parameters": 78_042,
            "macs": 12_500_000,
            "bytes": 318_000,
            "top1": None,
        },
        "data": {
            "title": "Handwritten digits",
            "classes": [str(digit) for digit in range(10)],
            "train": 1294,
            "validation": 143,
            "test": 360,
            "labelled": 100,
            "size": 32,
            "notes": [],
        },
    }


def _weight(default: float, high: float) -> Knob:
    help = "How much this loss counts in the sum."
    return Knob(
        "weight",
        "float",
        default,
        "Weight",
        help,
        low=0,
        high=high,
        unit="weight",
        scale="log",
        live=True,
    )


def _methods() -> list[Entry]:
    temperature = Knob(
        "temperature",
        "float",
        4.0,
        "Temperature",
        "Softens both distributions: higher shows more of how the teacher ranks the wrong classes.",
        low=1,
        high=20,
        scale="log",
        live=True,
    )
    stages = Knob("stages", "choice", "all", "Stages", "Which stages are compared.", choices=("all", "last"))
    power = Knob("p", "int", 2, "Power", "The power of the activations.", low=1, high=4, advanced=True)
    hint = Knob("hint", "text", "auto", "Hint", "The layer to imitate, or auto: the middle one.")
    return [
        Entry("families", "logits", "logits", "What the teacher says of every class.", ()),
        Entry("families", "features", "features", "What the layers hold.", ()),
        Entry("families", "attention", "attention", "Where the networks look.", ()),
        Entry(
            "methods",
            "at",
            "Attention transfer (AT)",
            "At each stage the student learns where the teacher's activations are strong.",
            (_weight(1000.0, 1e5), stages, power),
            source="Zagoruyko, Komodakis: Paying More Attention to Attention, ICLR 2017. arXiv:1612.03928",
            facts={"family": "attention"},
            caution="Between unlike architectures it can fall below the plain student.",
        ),
        Entry(
            "methods",
            "fitnet",
            "Hints (FitNets)",
            "The student's middle layer imitates the teacher's, through a trained 1×1 convolution.",
            (_weight(100.0, 1e4), hint),
            source="Romero et al.: FitNets: Hints for Thin Deep Nets, ICLR 2015. arXiv:1412.6550",
            facts={"family": "features"},
        ),
        Entry(
            "methods",
            "kd",
            "Soft targets (KD)",
            "The student imitates the teacher's probabilities of all classes.",
            (_weight(0.9, 10), temperature),
            source="Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015",
            facts={"family": "logits"},
        ),
        Entry(
            "methods",
            "nst",
            "Neuron selectivity (NST)",
            "",
            (_weight(50.0, 1e4),),
            unavailable="needs a GPU",
            facts={"family": "features"},
        ),
    ]


def _data_and_models() -> list[Entry]:
    path = Knob("path", "text", None, "Folder", "A folder with one folder of images per class.")
    samples = Knob(
        "samples", "int", 6000, "Samples", "How many images are drawn.", low=60, high=60_000, scale="log"
    )
    shortcut = Knob(
        "shortcut", "choice", "B", "Shortcut", "How a block's input skips it.", choices=("A", "B")
    )
    width = Knob("width", "int", 4, "Width", "How many times as wide.", low=1, high=256)
    resnets = {"models": ["resnet8", "resnet14", "resnet20", "resnet56"]}
    offline = {"offline": True, "task": "classification"}
    return [
        Entry(
            "datasets",
            "digits",
            "Handwritten digits",
            "Small scans of handwritten digits.",
            (),
            facts=offline,
        ),
        Entry("datasets", "folder", "Folder of images", "Your own images.", (path,), facts=offline),
        Entry(
            "datasets", "scenes", "Generated scenes", "Coloured shapes on clutter.", (samples,), facts=offline
        ),
        Entry("datasets", "cifar10", "CIFAR-10", "", (), facts={"offline": False, "task": "classification"}),
        Entry("models", "cnn", "Small CNN", "", (width,), facts={"models": ["cnn"]}),
        Entry("models", "resnet", "ResNet for small images", "", (shortcut,), facts=resnets),
    ]


def _stages() -> list[Entry]:
    epochs = Knob(
        "epochs",
        "int",
        10,
        "Epochs",
        "How often the student sees every image.",
        low=1,
        high=10_000,
        scale="log",
    )
    batch = Knob(
        "batch_size",
        "int",
        128,
        "Batch size",
        "Images in one optimizer step.",
        low=1,
        high=65_536,
        scale="log",
    )
    label = Knob(
        "label_weight",
        "float",
        0.1,
        "Label loss",
        "How much the plain label loss counts.",
        low=0,
        high=10,
        unit="weight",
        scale="log",
        live=True,
    )
    parts = ["optimizer", "schedule", "student", "methods", "rivals"]
    return [
        Entry(
            "stages",
            "distill",
            "Distil",
            "",
            (epochs, batch, label),
            facts={"needs_teacher": True, "needs_methods": False, "parts": parts},
        ),
        Entry(
            "stages",
            "train",
            "Train on labels",
            "",
            (epochs, batch),
            facts={"needs_teacher": False, "needs_methods": False, "parts": parts[:3]},
        ),
    ]

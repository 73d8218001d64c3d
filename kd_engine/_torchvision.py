"""Import torchvision also where its compiled extension cannot load.

A torchvision wheel built for CUDA beside a CPU-only torch fails at `import torchvision` with "operator
torchvision::nms does not exist": its extension links CUDA libraries that are not there, and one module
then describes two operators (`nms`, `qnms`) that nobody declared. Models, datasets and transforms are
plain Python, so declaring the two schemas is enough. Where the extension loads, the first import succeeds
and nothing is declared.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

import torch

from kd_engine.errors import KdError

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def import_torchvision() -> ModuleType:
    """The torchvision package, importable or made so. KdError when it is not installed."""
    try:
        return _import()
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    _declare_operators()
    return _import()


def _import() -> ModuleType:
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise KdError("torchvision is not installed.", "pip install torchvision") from error


@cache
def _declare_operators() -> Any:
    """Declare the two missing schemas, and forget what the failed import left behind. The cache keeps the
    library alive: torch takes the declarations back when it is collected."""
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(operator + _SCHEMA)
    return library

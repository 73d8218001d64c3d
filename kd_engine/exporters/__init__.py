"""Exporters: a trained student as a file that others can use, with a model card beside it. One format, one
file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from kd_engine.deploy import Deployed
from kd_engine.knobs import Knobs
from kd_engine.registry import Plugin


class Exporter(Plugin):
    """Base of all exporters."""

    Knobs: ClassVar[type[Knobs]] = Knobs
    suffix: ClassVar[str] = ""  # of the file it writes, e.g. ".safetensors"

    @classmethod
    def facts(cls) -> dict[str, Any]:
        return {"suffix": cls.suffix}

    @classmethod
    def export(cls, module: Deployed, card: dict[str, Any], path: Path, knobs: Any) -> None:
        """Write `module` (in eval mode, on the CPU) to `path`. `card`: see kd_engine.card; `card["input"]`
        says the size, mean and std."""
        raise NotImplementedError(cls)

    @classmethod
    def load_code(cls, path: Path, card: dict[str, Any]) -> str:
        """Three lines of Python that load the file in a fresh interpreter and give `model`, ready for
        images."""
        raise NotImplementedError(cls)


Base = Exporter

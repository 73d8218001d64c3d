"""The whole program as torch.export writes it: weights, architecture and normalisation; loads with torch
alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kd_engine.deploy import Deployed
from kd_engine.exporters import Exporter
from kd_engine.store import replacing


class Pt2(Exporter):
    """An ExportedProgram for any batch size."""

    name = "pt2"
    title = "PyTorch program"
    help = (
        "Weights, architecture and normalisation in one file that loads with plain torch, without kd_engine."
    )
    suffix = ".pt2"

    @classmethod
    def export(cls, module: Deployed, card: dict[str, Any], path: Path, knobs: Any) -> None:
        size = card["input"]["size"]
        images = torch.zeros(2, 3, size, size)
        program = torch.export.export(module, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        with replacing(path) as temporary, open(temporary, "wb") as file:
            torch.export.save(program, file)

    @classmethod
    def load_code(cls, path: Path, card: dict[str, Any]) -> str:
        size = card["input"]["size"]
        return (
            "import torch\n"
            f"model = torch.export.load({str(path)!r}).module()\n"
            f"scores = model(images)  # images: (N, 3, {size}, {size}), RGB, 0 to 1"
        )

"""The whole program as torch.export writes it: weights, architecture and normalisation; loads with torch
alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

from kd_engine.card import KEY
from kd_engine.deploy import Deployed
from kd_engine.disk import replacing
from kd_engine.errors import KdError
from kd_engine.exporters import Exporter


class Pt2(Exporter):
    """An ExportedProgram for any batch size; the card lies in it as an extra file."""

    name = "pt2"
    title = "PyTorch program"
    help = (
        "Weights, architecture and normalisation in one file that loads with plain torch, without kd_engine."
    )
    suffix = ".pt2"

    @classmethod
    def export(cls, module: Deployed, card: dict[str, Any], path: Path, knobs: Any) -> None:
        size = card["input"]["size"]
        # Two images: torch takes a batch of one for a constant. And no channels-last: it cannot store that.
        module = module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        images = torch.zeros(2, 3, size, size)
        try:
            program = torch.export.export(module, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        except Exception as error:  # torch raises many kinds for a forward that it cannot follow
            raise KdError(
                f"torch.export cannot follow {card['model']} ({type(error).__name__}).",
                "Export it as safetensors.",
            ) from error
        content = io.BytesIO()  # where torch writes to a disk that is full, the whole process ends at once
        torch.export.save(program, content, extra_files={KEY: json.dumps(card)})
        with replacing(path) as temporary:
            temporary.write_bytes(content.getbuffer())

    @classmethod
    def load_code(cls, path: Path, card: dict[str, Any]) -> str:
        size = card["input"]["size"]
        return (
            "import torch\n"
            f"model = torch.export.load({str(path)!r}).module()\n"
            f"scores = model(images)  # images: (N, 3, {size}, {size}), RGB, 0 to 1; columns: the classes"
        )

"""The weights as safetensors with the model card in the header: small, safe to open, and loads with this
package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kd_engine import card as cards
from kd_engine import weights
from kd_engine.deploy import Deployed
from kd_engine.exporters import Exporter


class Safetensors(Exporter):
    """State dict and card in one file."""

    name = "safetensors"
    title = "Safetensors"
    help = "Weights and model card in one file that cannot hold code. Loads with kd_engine."
    suffix = ".safetensors"

    @classmethod
    def export(cls, module: Deployed, card: dict[str, Any], path: Path, knobs: Any) -> None:
        weights.save_state(path, module.model.state_dict(), cards.to_metadata(card))

    @classmethod
    def load_code(cls, path: Path, card: dict[str, Any]) -> str:
        size = card["input"]["size"]
        return (
            "from kd_engine import load_model\n"
            f"model = load_model({str(path)!r})\n"
            f"scores = model(images)  # images: (N, 3, {size}, {size}), RGB, 0 to 1; columns: model.classes"
        )

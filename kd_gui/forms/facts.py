"""What a card says about a model or a dataset, in one line: from the engine's facts, or else from the
draft."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QCoreApplication

from kd_gui.forms.scale import counted
from kd_gui.forms.weights import words
from kd_gui.state.draft import Draft


def tr(text: str) -> str:
    return QCoreApplication.translate("Facts", text)


def role_words(role: tuple[str, int]) -> str:
    """ "teacher", "teacher 2", "assistant of stage 1", "student"."""
    name, number = role
    if name == "assistant":
        return tr("assistant of stage {}").format(number)
    said = tr("teacher") if name == "teacher" else tr("student")
    return f"{said} {number}" if number else said


def model_line(draft: Draft, place: str, role: tuple[str, int]) -> str:
    """ "teacher · 0.27 M · 97.5 %" or "student · 78 k · ×3.5 smaller". place: where the model stands in the
    recipe."""
    facts = _facts(draft, place)
    said = [role_words(role)]
    if "parameters" in facts:
        said.append(counted(facts["parameters"]))
    ratio = _ratio(draft, "parameters") if place == "student" else None
    if ratio is not None:
        said.append(_times(ratio))
    if facts.get("top1") is not None and (place == "teacher" or ratio is None):
        said.append(f"{100 * facts['top1']:.1f} %")
    if len(said) == 1:
        said.append(words(draft.value(place)["weights"]) or tr("untrained"))
    return " · ".join(said)


def model_tip(draft: Draft, role: str) -> str:
    """The whole story: parameters, size on disk, work per image, accuracy, weights."""
    facts, lines = _facts(draft, role), []
    if "parameters" in facts:
        lines.append(tr("{} parameters").format(f"{facts['parameters']:,}"))
    if facts.get("bytes"):
        lines.append(tr("{} kB").format(f"{facts['bytes'] / 1000:,.0f}"))
    if facts.get("macs"):
        lines.append(tr("{} multiply-adds for an image").format(counted(facts["macs"])))
    if role == "student" and (ratio := _ratio(draft, "macs")) is not None:
        lines.append(tr("×{} less work than the teacher").format(f"{ratio:.1f}"))
    if facts.get("top1") is not None:
        lines.append(tr("{} % right on the test part").format(f"{100 * facts['top1']:.1f}"))
    weights = words(draft.value(role)["weights"])
    lines.append(tr("weights: {}").format(weights) if weights else tr("starts untrained"))
    return "\n".join([draft.value(role)["model"], *lines])


def data_line(draft: Draft) -> tuple[str, str]:
    """The dataset's title, and "1,437 images · 10 labels a class"."""
    assert draft.catalog is not None
    name = draft.value("data.dataset")
    entry = draft.catalog.find("datasets", name)
    facts: dict[str, Any] = draft.facts.get("data") or {}
    said = []
    if "train" in facts:
        said.append(tr("{} images").format(f"{facts['train'] + facts.get('validation', 0):,}"))
    labels = draft.value("data.labels_per_class")
    if labels is not None:
        said.append(tr("{} labels a class").format(labels))
    elif "classes" in facts:
        said.append(tr("{} classes").format(len(facts["classes"])))
    title = facts.get("title") or (entry.title if entry else name)
    return title, " · ".join(said) or tr("dataset")


def _facts(draft: Draft, role: str) -> dict[str, Any]:
    """The engine's facts about a model, unless they are about another one than the draft names now."""
    facts: dict[str, Any] = draft.facts.get(role) or {}
    return facts if facts.get("model") == draft.value(role)["model"] else {}


def _ratio(draft: Draft, what: str) -> float | None:
    """How many times the student's `what` goes into the teacher's."""
    if draft.document["teacher"] is None:
        return None
    teacher, student = _facts(draft, "teacher").get(what), _facts(draft, "student").get(what)
    return teacher / student if teacher and student else None


def _times(ratio: float) -> str:
    shown = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
    if ratio >= 1:
        return tr("×{} smaller").format(shown)
    return tr("×{} larger").format(f"{1 / ratio:.1f}")

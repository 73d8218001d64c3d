"""What a pilot says about temperature and weights, with its noise: a suggestion only where the evidence
exceeds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kd_engine.events import STUDENT
from kd_engine.pilot import PLAIN, Outcome, Pilot, Setting
from kd_engine.statistics import difference_error, share_error, z_for

# Rules of thumb for the mean probability of the teacher's first choice on images that it learned from.
SURE = 0.95  # above, what it says at T = 1 is nearly the label again
SOFT = 0.6  # below, the wrong classes show without help
LEARNED = 0.5  # of the teacher's accuracy: where no student got so far, a pilot says who starts fastest


@dataclass(frozen=True)
class Finding:
    """One student of the pilot. setting: None for plain training. error: of top1, by chance of the
    validation images. behind: points of top1 (a fraction) behind the best setting; noise: what such a
    difference must exceed."""

    name: str
    setting: Setting | None
    own: bool
    top1: float
    error: float
    kl: float | None
    agreement: float | None
    behind: float
    noise: float


@dataclass(frozen=True)
class Advice:
    """findings: best first, plain training last. changes: by path in the recipe, what the evidence speaks
    for; empty when it speaks for nothing. words: the verdict, in sentences. protocol: how it came about."""

    name: str
    findings: tuple[Finding, ...]
    changes: dict[str, float]
    words: tuple[str, ...]
    protocol: tuple[str, ...]
    teacher: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; accuracies are fractions, kl and entropies nats."""
        return {"version": 1, **asdict(self)}


def judge(pilot: Pilot, outcome: Outcome) -> Advice:
    """The advice that a pilot's outcome supports."""
    findings = _findings(pilot, outcome)
    *tried, plain = findings
    best, own = tried[0], next(finding for finding in tried if finding.own)
    early = _too_early(findings, outcome.teacher)
    clear = own.behind > own.noise and not early
    if early:
        words = [early]
    else:
        chosen = best if clear else own
        words = [*_verdict(best, own, tried[1:2], clear), _against_plain(chosen, plain, outcome.images)]
    words += _about_teacher(outcome.teacher)
    return Advice(
        name=str(pilot.document["name"]),
        findings=findings,
        changes=_changes(pilot, best, own) if clear else {},
        words=tuple(words),
        protocol=_protocol(pilot, outcome, len(tried)),
        teacher=outcome.teacher,
    )


def _findings(pilot: Pilot, outcome: Outcome) -> tuple[Finding, ...]:
    """Best on validation first; of equals the recipe's own, then the one closer to the teacher; plain
    training last."""
    figures, n = outcome.validation, outcome.images
    order = sorted(
        pilot.settings,
        key=lambda name: (-figures[name]["top1"], name != STUDENT, figures[name].get("kl", 0.0)),
    )
    best = figures[order[0]]["top1"]
    z = z_for(len(order) - 1)
    made = []
    for name in (*order, PLAIN):
        top1, setting = figures[name]["top1"], pilot.settings.get(name)
        made.append(
            Finding(
                name=setting.name if setting is not None else name,
                setting=setting,
                own=name == STUDENT,
                top1=top1,
                error=share_error(top1, n),
                kl=figures[name].get("kl"),
                agreement=figures[name].get("agreement"),
                behind=best - top1,
                noise=z * difference_error(best, top1, n),
            )
        )
    return tuple(made)


def _too_early(findings: Sequence[Finding], teacher: dict[str, Any] | None) -> str:
    """Why nothing can be said; empty where something can."""
    top1 = max(finding.top1 for finding in findings)
    if teacher is None or top1 >= LEARNED * teacher["top1_validation"]:
        return ""
    return (
        f"Too early for advice: no student got beyond {100 * top1:.1f} %, less than half of the teacher's "
        f"{100 * teacher['top1_validation']:.1f} %. Give the pilot more --epochs, or a larger --subset."
    )


def _verdict(best: Finding, own: Finding, second: Sequence[Finding], clear: bool) -> list[str]:
    if best is own:
        words = f"The recipe's own setting ({own.name}) did best: no evidence for any other."
        return [words]
    if not clear:
        return [
            f"No evidence for any setting over the recipe's own ({own.name}): the best ({best.name}) is "
            f"{_points(own.behind)} ahead, and {_points(own.noise)} could be chance."
        ]
    words = (
        f"Suggested: {best.name}. It is {_points(own.behind)} ahead of the recipe's own ({own.name}), where "
        f"{_points(own.noise)} could be chance."
    )
    if second and not second[0].own and second[0].behind <= second[0].noise:
        words += (
            f" The runner-up ({second[0].name}), {_points(second[0].behind)} behind, cannot be told from it."
        )
    return [words]


def _against_plain(chosen: Finding, plain: Finding, images: int) -> str:
    gain = chosen.top1 - plain.top1
    noise = z_for(1) * difference_error(chosen.top1, plain.top1, images)
    what = f"{chosen.name} is {_points(abs(gain))} {'ahead of' if gain >= 0 else 'behind'} plain training"
    if abs(gain) <= noise:
        return f"Whether the teacher helps is not seen here: {what}, and {_points(noise)} could be chance."
    if gain > 0:
        return f"The teacher helps: {what}, where {_points(noise)} could be chance."
    return (
        f"The teacher does not help in so short a run: {what}, where {_points(noise)} could be chance. Look "
        "at the teacher and the weights before anything else."
    )


def _about_teacher(teacher: dict[str, Any] | None) -> list[str]:
    if teacher is None:
        return ["The teacher is made by the stage before: nothing is said about it here."]
    told = (
        f"On the training images the teacher is right on {100 * teacher['top1']:.1f} % (validation "
        f"{100 * teacher['top1_validation']:.1f} %); at T=1 it gives its first choice "
        f"{100 * teacher['max']:.1f} % on average, entropy {teacher['entropy']:.3f} of at most "
        f"{teacher['entropy_max']:.3f} nats"
    )
    if teacher["max"] > SURE:
        softer = [t for t, top, _ in teacher["softened"] if top < SURE]
        way = f"T={softer[0]:g} is the first tried that shows more" if softer else "none that was tried does"
        return [f"{told}: nearly the labels again. A higher temperature shows more of the rest; {way}."]
    if teacher["max"] < SOFT:
        return [f"{told}: soft already. Temperatures far above 1 mostly flatten it."]
    return [f"{told}: neither sharp nor flat, which speaks for no temperature by itself."]


def _changes(pilot: Pilot, best: Finding, own: Finding) -> dict[str, float]:
    assert best.setting is not None
    assert own.setting is not None
    stage = f"stages.{pilot.stage}"
    method = f"{stage}.methods.{pilot.method}"
    pairs = {
        f"{method}.temperature": (best.setting.temperature, own.setting.temperature),
        f"{method}.weight": (best.setting.weight, own.setting.weight),
        f"{stage}.label_weight": (best.setting.label_weight, own.setting.label_weight),
    }
    return {path: new for path, (new, old) in pairs.items() if new != old}


def _protocol(pilot: Pilot, outcome: Outcome, tried: int) -> tuple[str, ...]:
    machine = outcome.environment
    return (
        f"Judged by top-1 on {outcome.images} validation images after the last epoch of the pilot, "
        f"{outcome.steps} optimizer steps. No model answered on the test part.",
        f"{tried} settings and plain training, side by side: one teacher pass, the same batches and initial "
        f"weights, one seed ({pilot.document['seed']}).",
        *pilot.notes,
        f"What could be chance: {z_for(tried - 1):.2f} standard errors of the difference of two shares, so "
        f"many because {tried - 1} settings are held against one (Bonferroni, 95 %); on the careful side, "
        "since all answer on the same images. Other seeds and a longer run are not in it: settings that "
        "learn fast lead early.",
        f"Machine: {machine.get('device', '?')} ({machine.get('device_name', '?')}), CPU threads "
        f"{machine.get('threads', '?')}, torch {machine.get('versions', {}).get('torch', '?')}.",
    )


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"

"""What the command line shows of a run in motion, and of numbers."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kd_engine import events as e
from kd_engine import report, summary
from kd_engine.commands import Stop
from kd_engine.session import Session
from tests.engine import tiny


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal, 100 columns wide."""
    file = io.StringIO()

    monkeypatch.setattr(report, "Console", partial(Console, file=file, force_terminal=True, width=100))
    return file


def watch(session: Session, until: type[e.Event] = e.RunDone) -> list[tuple[int, int]]:
    """Steps done and in all, after each report on the student, up to the first event of a kind."""
    shown = report.Progress()
    counts = []
    for event in session:
        shown.show(event)
        if isinstance(event, e.StepDone) and event.student == e.STUDENT:
            [task] = shown._bar.tasks
            counts.append((int(task.completed), int(task.total or 0)))
        if isinstance(event, until):
            break
    shown.close()
    return counts


def test_the_bar_counts_the_steps_of_every_stage_from_one(
    screen: io.StringIO, teacher: Path, tmp_path: Path
) -> None:
    counts = watch(Session(tiny.two_stages(teacher), tmp_path))
    totals = [total for _, total in counts]
    assert totals == sorted(totals)
    assert [max(done for done, of in counts if of == total) for total in (3, 6)] == [3, 6]
    assert all(0 < done <= total for done, total in counts)


def test_the_bar_of_a_resumed_run_goes_on_where_it_was(
    screen: io.StringIO, teacher: Path, tmp_path: Path
) -> None:
    session = Session(tiny.two_stages(teacher, stages__0__epochs=4), tmp_path)
    tiny.until(session, e.EpochDone, stage=1, epoch=2)
    session.send(Stop(keep=True))
    list(session)
    counts = watch(Session.resume(tiny.folder(session).name, tmp_path))
    assert counts[-1] == (12, 12)
    assert all(6 < done <= total == 12 for done, total in counts)


def test_names_are_shown_as_they_were_given(screen: io.StringIO, teacher: Path, tmp_path: Path) -> None:
    rival = {"name": "[red]no[/red] :cat:", "label_weight": 1.0, "methods": []}
    watch(Session(tiny.recipe(teacher, stages__0__rivals=[rival], stages__0__epochs=1), tmp_path))
    assert "[red]no[/red] :cat: " in screen.getvalue()


def test_what_goes_wrong_is_told_beside_the_bar_and_not_in_it(
    screen: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = report.Progress()
    shown.show(e.Notice(level="warning", code="model", message="look [here]"))
    shown.show(e.Notice(level="error", code="nan", message="no number"))
    shown.show(e.RunFailed(run="r1", error="store", message="Full.", hint="Free some.", resumable=True))
    assert "warning: look [here]" in screen.getvalue()
    assert capsys.readouterr().err == "kd: no number\nkd: Full. Free some. Go on with: kd resume r1\n"


def test_columns_line_up_for_wide_letters_too(capsys: pytest.CaptureFixture[str]) -> None:
    figures: dict[str, Any] = {
        "top1": 0.5,
        "per_class": [{"recall": 1.0, "precision": 0.5, "f1": 2 / 3, "support": n} for n in (7, 1000)],
    }
    report.show_figures({"m": figures}, ["猫", "dog"])
    head, cat, dog = capsys.readouterr().out.splitlines()[-3:]
    assert len(cat) + 1 == len(dog) == len(head)  # one letter that is two columns wide
    assert cat.endswith("7")
    assert "66.7%" in dog


def test_figures_stand_in_sections_with_gaps_reasons_and_the_protocol(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {"recall": 1.0, "precision": 0.5, "f1": 2 / 3, "support": 7}
    teacher = {"top1": 0.75, "macro": {"f1": 0.5}, "per_class": [row, row]}
    student = {
        **teacher,
        "kl": 0.25,
        "top1_jpeg": 0.125,
        "gaps": [-0.25, None],
        "energy_j_per_1000": None,
        "unmeasured": {"energy_j_per_1000": "no counter"},
    }
    report.show_figures({"teacher": teacher, "last": student}, ["a", "b"], "Protocol: none.")
    text = capsys.readouterr().out
    words = [" ".join(line.split()) for line in text.splitlines()]
    for section, line in (
        ("Accuracy", "F1, mean over classes 50.00% 50.00%"),
        ("Closeness to the teacher", "distance to the teacher (KL, nats) 0.2500"),
        ("Accuracy on corrupted images", "after JPEG compression 12.50%"),
        ("Cost", "energy of 1,000 images not measurable here"),
    ):
        assert words.index(section) < words.index(line)
    assert "a 100.0% 50.0% 66.7% -25.0 7" in words
    assert "b 100.0% 50.0% 66.7% 7" in words
    assert words[-3:] == [
        "energy of 1,000 images: not measurable here: no counter",
        "",
        "Protocol: none.",
    ]


def test_sections_without_a_figure_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    report.show_figures({"m": {"top1": 0.5, "per_class": []}}, [])
    text = capsys.readouterr().out
    assert "Accuracy" in text
    assert "corrupted" not in text
    assert "teacher" not in text


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (summary.duration(0.4), "0 s"),
        (summary.duration(59.6), "1 min 00 s"),
        (summary.duration(3725), "1 h 02 min"),
        (summary.many(999), "999"),
        (summary.many(12_501_632), "12.5 M"),
        (summary.size(319_640), "320 kB"),
        (summary.percent(0.12345), "12.3%"),
    ],
)
def test_numbers_in_words(told: str, words: str) -> None:
    assert told == words

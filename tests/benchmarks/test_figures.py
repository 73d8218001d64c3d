"""What benchmarks hand over: figures that tell which bound they keep, a ledger that forgets nothing else, and
a page and pictures that say what the ledger says."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import __main__ as runner
from benchmarks import figures, ledger, page, pictures
from benchmarks.figures import AIM, MISSED, MUST, OPEN, Figure
from benchmarks.ledger import Entry

SVG = "{http://www.w3.org/2000/svg}"
SLOW = Figure("warm epoch", 1.2, must=1.1, aim=1.03, case="a → b")
GOOD = Figure("warm epoch", 1.01, low=1.0, high=1.02, must=1.1, aim=1.03, case="a → c", note="floor 1 s")
FAST = Figure("reference", 5.0, must=4.1, better="more")
NOWHERE = Figure("on a GPU", None, must=10, better="more", note="no GPU")
CURVE = Figure("against size", 0.9, points=((1.0, 1.0), (4.0, 3.6), (16.0, 14.4)), must=1.05)


def entry(*found: Figure, machine: str = "a machine", failed: str = "") -> Entry:
    return Entry(found, machine, "torch 2", "2026-01-02", 61.0, failed)


@pytest.mark.parametrize(
    ("figure", "kept"),
    [(SLOW, MISSED), (GOOD, AIM), (FAST, MUST), (NOWHERE, OPEN), (Figure("free", 3.0), OPEN)],
)
def test_a_figure_knows_which_bound_it_keeps(figure: Figure, kept: str) -> None:
    assert figure.kept == kept


def test_a_bound_itself_is_kept() -> None:
    assert Figure("x", 1.1, must=1.1).kept == MUST
    assert Figure("x", 90.0, aim=90, better="more").kept == AIM
    assert Figure("x", 89.9, aim=90, better="more").kept == MISSED


def test_repeats_become_their_median_and_quartiles() -> None:
    made = figures.over("x", [4.0, 1.0, 2.0, 3.0, 100.0], must=3)
    assert (made.low, made.value, made.high, made.must) == (2.0, 3.0, 4.0, 3)
    assert figures.over("x", np.array([1.0, 2.0, 3.0])) == figures.over("x", [1.0, 2.0, 3.0])  # type: ignore[arg-type]
    alone = figures.over("x", [7.0])
    assert (alone.low, alone.value, alone.high) == (7.0, 7.0, 7.0)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_no_figure_is_made_of_what_is_no_number(values: list[float]) -> None:
    with pytest.raises(ValueError, match="x: no figure"):
        figures.over("x", values)


def test_figures_come_back_from_the_file_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [SLOW, GOOD, FAST, NOWHERE, CURVE, figures.over("of numpy's", list(np.array([1.0, 2.0])))]
    figures.hand_over(made, tmp_path / "figures.json")
    assert figures.read(tmp_path / "figures.json") == made
    assert "1.01× (1.00–1.02)" in capsys.readouterr().out


@given(st.floats(1e-3, 1e9))
def test_a_written_number_is_the_number_within_a_hundredth(value: float) -> None:
    assert float(figures.number(value).replace(",", "")) == pytest.approx(value, rel=0.01, abs=6e-4)


# -- the ledger ----------------------------------------------------------------------------------------------


def test_a_module_that_is_run_again_replaces_its_figures_alone() -> None:
    before = {"epoch": entry(SLOW), "step": entry(FAST)}
    after = ledger.merged(before, {"epoch": entry(GOOD)})
    assert after == {"epoch": entry(GOOD), "step": entry(FAST)}
    assert before["epoch"] == entry(SLOW)


def test_what_cannot_be_measured_here_leaves_what_was_measured_elsewhere() -> None:
    elsewhere = {"gpu": entry(Figure("on a GPU", 12.0), machine="with a GPU")}
    assert ledger.merged(elsewhere, {"gpu": entry(NOWHERE)}) == elsewhere
    assert ledger.merged({}, {"gpu": entry(NOWHERE)}) == {"gpu": entry(NOWHERE)}


def test_a_module_that_broke_off_keeps_its_figures_and_says_so() -> None:
    after = ledger.merged({"epoch": entry(GOOD)}, {"epoch": entry(failed="exit code 1")})
    assert after["epoch"].figures == (GOOD,)
    assert after["epoch"].failed == "exit code 1"
    assert "exit code 1" in page.page(after)
    assert not ledger.merged(after, {"epoch": entry(GOOD)})["epoch"].failed


def test_the_ledger_comes_back_from_its_file(tmp_path: Path) -> None:
    entries = {"epoch": entry(SLOW, GOOD), "growth": entry(CURVE), "gpu": entry(NOWHERE)}
    ledger.write(tmp_path / "results.json", entries)
    assert ledger.read(tmp_path / "results.json") == entries
    assert ledger.read(tmp_path / "none.json") == {}


def test_the_machine_is_told_in_words() -> None:
    assert "cores" in ledger.machine()
    assert "torch" in ledger.versions()


# -- the page and the pictures -------------------------------------------------------------------------------


def test_the_page_tells_every_figure_beside_its_bounds() -> None:
    text = page.page({"epoch": entry(SLOW, GOOD), "gpu": entry(NOWHERE)})
    assert "| warm epoch | a → b | 1.20× | ≤ 1.10× | ≤ 1.03× | **no** |  |" in text
    assert (
        "| warm epoch | a → c | 1.01× (1.00–1.02) | ≤ 1.10× | ≤ 1.03× | yes, the aim too | floor 1 s |"
        in text
    )
    assert "| on a GPU |  | not measurable here | ≥ 10× |  |  | no GPU |" in text
    assert "1 of 2 bounds are kept, 1 of 2 aims reached." in text
    assert "- warm epoch, a → b (`epoch`): 1.20×, must ≤ 1.10×, aim ≤ 1.03×" in text
    assert text.count("2026-01-02") == 2
    assert page.SMALL not in text


def test_the_page_tells_a_machine_once_for_all_that_have_it_in_common() -> None:
    text = page.page({"epoch": entry(GOOD), "step": entry(FAST), "gpu": entry(FAST, machine="with a GPU")})
    assert "- `epoch`, `step`: a machine; torch 2" in text
    assert "- `gpu`: with a GPU; torch 2" in text
    assert "Together they took 3 minutes." in text


def test_the_picture_has_a_row_for_each_figure_and_marks_what_is_missed() -> None:
    drawn = ET.fromstring(pictures.results({"epoch": entry(SLOW, GOOD, FAST), "gpu": entry(NOWHERE)}))
    words = [text.text for text in drawn.iter(SVG + "text")]
    assert words.count("warm epoch") == 1
    assert "1.01 … 1.20×" in words
    assert "on a GPU" not in words
    dots = [dot.get("fill") for dot in drawn.iter(SVG + "circle")]
    assert dots == [pictures.STUDENT, pictures.INK]


def test_less_is_better_on_the_picture_whichever_way_a_figure_is_meant() -> None:
    assert pictures.share(FAST) == pytest.approx(4.1 / 5)
    assert pictures.share(SLOW) == pytest.approx(1.2 / 1.1)


def test_the_picture_of_growth_has_every_point_and_is_not_there_without_one() -> None:
    picture = pictures.growth({"growth": entry(CURVE, SLOW)})
    assert picture is not None
    assert len(list(ET.fromstring(picture).iter(SVG + "circle"))) == 3
    assert "14.4×" in [text.text for text in ET.fromstring(picture).iter(SVG + "text")]
    seconds = Figure("in seconds", 0.2, "s", points=((5.0, 0.1), (10.0, 0.2)))
    assert ">2.00×<" in (pictures.growth({"store": entry(seconds)}) or "")
    assert pictures.growth({"epoch": entry(SLOW)}) is None


# -- the runner ----------------------------------------------------------------------------------------------


def test_the_runner_keeps_what_a_module_hands_over_beside_what_was_there(tmp_path: Path) -> None:
    runner.record(tmp_path, {"epoch": entry(SLOW)})
    runner.record(tmp_path, {"memory": entry(CURVE)})
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "a → b" in text
    assert "![growth](growth.svg)" in text
    assert (tmp_path / "growth.svg").exists()
    assert list(json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))) == ["epoch", "memory"]


def test_a_module_that_breaks_off_is_told() -> None:
    broken = runner.run("no_such_module")
    assert broken.failed == "exit code 1, no figures"
    assert broken.figures == ()


def test_a_module_runs_in_a_process_of_its_own() -> None:
    made = runner.run("gpu", small=True)
    assert not made.failed
    assert [figure.name for figure in made.figures] == [
        "reference ÷ warm epoch, on a GPU",
        "speed of the graphed floor, warm",
    ]
    assert made.seconds > 0
    assert page.SMALL in page.page({"gpu": made})


def test_the_runner_runs_every_module_that_hands_over_figures() -> None:
    measuring = [
        file for file in runner.HERE.glob("*.py") if "hand_over(" in file.read_text(encoding="utf-8")
    ]
    assert {file.stem for file in measuring} - {"figures"} == set(runner.MODULES)

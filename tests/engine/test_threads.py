"""Threads that wait asleep: asked for where torch is not imported yet, unless somebody chose otherwise."""

from __future__ import annotations

import pytest

from kd_engine.threads import wait_asleep


def test_a_short_spin_is_asked_for() -> None:
    environ = {"HOME": "/"}
    wait_asleep(environ)
    assert int(environ["GOMP_SPINCOUNT"]) > 0


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_a_choice_of_the_user_stands(name: str) -> None:
    environ = {name: "chosen"}
    wait_asleep(environ)
    assert environ == {name: "chosen"}

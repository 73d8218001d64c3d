"""The nets under every test catch what they are there for: tried on small test sessions that must fail."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kd_engine import paths

pytest_plugins = ["pytester"]
HERE = Path(__file__).parent


@pytest.fixture
def outcome(pytester: pytest.Pytester):
    """Run a test's source under our conftest.py and configuration, in a process of its own."""
    shutil.copy(HERE / "conftest.py", pytester.path)
    shutil.copy(HERE.parent / "pyproject.toml", pytester.path)

    def run(body: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=body)
        return pytester.runpytest_subprocess("-p", "no:randomly", "test_it.py")

    return run


def test_what_is_left_running_fails_the_test(outcome):
    result = outcome("""
        import multiprocessing, threading, time
        from PySide6.QtCore import QThread
        class Forgotten(QThread):
            def run(self): self.sleep(8)
        kept = []
        def test_thread():
            threading.Thread(target=time.sleep, args=(8,), name="forgotten thread", daemon=True).start()
        def test_process():
            spawn = multiprocessing.get_context("spawn")
            spawn.Process(target=time.sleep, args=(8,), name="forgotten process", daemon=True).start()
        def test_qthread(qapp):
            kept.append(Forgotten(objectName="forgotten QThread"))
            kept[0].start()
    """)
    result.assert_outcomes(passed=3, errors=3)
    for kind in ("thread", "process", "QThread"):
        result.stdout.fnmatch_lines([f"*still running after the test: *forgotten {kind}*"])


def test_what_ends_a_moment_later_is_no_leak(outcome):
    outcome("""
        import threading, time
        from PySide6.QtCore import QThread
        class Short(QThread):
            def run(self): self.msleep(200)
        kept = []
        def test_it(qapp):
            threading.Thread(target=time.sleep, args=(0.2,)).start()
            kept.append(Short())
            kept[0].start()
        def test_what_was_there_before_counts_for_nobody(): pass
    """).assert_outcomes(passed=2)


def test_warnings_fail_a_test_but_not_what_the_screenless_platform_cannot_do(outcome):
    outcome("""
        import warnings
        from PySide6.QtCore import qWarning
        from PySide6.QtWidgets import QLabel, QMenu
        def test_python(): warnings.warn("odd")
        def test_qt(qapp): qWarning("odd")
        def test_menu(qtbot):
            window, menu = QLabel("x"), QMenu()
            qtbot.addWidget(window); qtbot.addWidget(menu)
            window.show(); window.raise_(); menu.addAction("x"); menu.popup(window.pos()); menu.close()
    """).assert_outcomes(passed=1, failed=2)


def test_settings_and_folders_are_not_the_users(own_folders):
    from PySide6.QtCore import QSettings

    assert own_folders in Path(QSettings("kd", "studio").fileName()).parents
    for folder in (paths.cache(), paths.runs(), paths.datasets()):
        assert own_folders in folder.parents
    assert paths.plugins() == []


def test_torch_counts_on_one_thread_and_qt_on_no_screen(qapp):
    import torch

    assert torch.get_num_threads() == 1
    assert qapp.platformName() == os.environ["QT_QPA_PLATFORM"] == "offscreen"

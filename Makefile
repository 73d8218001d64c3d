# make run: set up once and open the window. make test: the same set-up, then every test, headless.
# Also demo, bench, check, setup, clean. `make setup PYTHON=/path/to/python` chooses the interpreter (3.11 or newer);
# `make test ARGS="tests/engine -k taps"` hands arguments to pytest.

PYTHON :=
PY := .venv/bin/python
READY := .venv/.installed

.PHONY: run test demo bench check setup clean FORCE

run: $(READY)
	$(PY) -m kd_gui

test: $(READY)
	@QT_QPA_PLATFORM=offscreen $(PY) -m kd_gui.startup
	QT_QPA_PLATFORM=offscreen $(PY) -m pytest $(ARGS)

demo: $(READY)
	QT_QPA_PLATFORM=offscreen $(PY) -m kd_gui.demo

bench: $(READY)
	QT_QPA_PLATFORM=offscreen $(PY) -m benchmarks $(ARGS)

check: $(READY)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

setup: $(READY)

# Set up again when the requirements changed, or when the environment's interpreter has gone.
$(READY): pyproject.toml setup.py constraints.txt $(if $(shell $(PY) -c 0 2>/dev/null && echo runs),,FORCE)
	@.ci/venv $(PYTHON)

# Everything that can be made again. Runs are the user's work and stay.
clean:
	rm -rf .venv build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

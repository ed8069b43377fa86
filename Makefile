# The one place that knows the commands. Every target makes .venv itself; all it needs is Python 3.11 or newer, git and make.
#   make demo     8 pairs at 128^3 and samples around instances, in demo/ make lint    ruff and mypy
#   make test     the test suite                                         make bench   timings
#   make stress   the tests that take minutes                            make docs    the documentation, in site/
#   make clean    remove what these targets made
# PYTHON=/path/to/python3 chooses the interpreter for .venv, JOBS=4 the number of test processes, BENCH="--tree TREE" the
# flags of benchmarks/run.py, SEED=1 the examples that `make stress` tries; it prints the one it takes.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test stress lint bench docs clean
MAKEFLAGS += --no-builtin-rules

VENV := .venv
PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --no-input
JOBS ?= 2
SEED := $(or $(SEED),$(shell date +%s))
# A user's own settings of Python must not reach into .venv.
unexport PYTHONPATH PYTHONHOME
export PIP_REQUIRE_VIRTUALENV := 1

help:
	@sed -n '2,6s/^# *//p' Makefile

demo: $(VENV)/installed-package
	$(VENV)/bin/voxmint pairs make --out demo/pairs --count 8 --templates procedural --side 128 --seed 0
	$(VENV)/bin/voxmint verify demo/pairs
	[ -e demo/phantom/materialization.csv ] || $(VENV)/bin/voxmint instances phantom --out demo/phantom --instances 24
	$(VENV)/bin/voxmint instances make --source demo/phantom/source --target demo/phantom/target \
	    --table demo/phantom/materialization.csv --table-voxel-size 16,16,30 --crop 64,64,16 --scenarios 2 --out demo/instances
	$(VENV)/bin/voxmint verify demo/instances
	@echo "Look at demo/pairs/montage.png and demo/instances/montage.png"

test: $(VENV)/installed-test
	$(PY) -m pytest -n $(JOBS) --dist worksteal -m "not stress" -q

stress: $(VENV)/installed-test
	$(PY) -m pytest -m "stress or hypothesis" --hypothesis-profile=seeded --hypothesis-seed=$(SEED)

lint: $(VENV)/installed-lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(VENV)/installed-test
	$(PY) benchmarks/run.py $(BENCH)

docs: $(VENV)/installed-docs
	$(VENV)/bin/zensical build --strict
	@echo "Open site/index.html"

clean:
	rm -rf -- $(VENV) .cache demo site build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find src tests benchmarks -type d -name __pycache__ -prune -exec rm -rf -- {} +

# One stamp for each set of packages: installed again only when pyproject.toml changes.
$(VENV)/installed-package: pyproject.toml | $(PY)
	@echo "Installing voxmint into $(VENV)"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(PY)
	@echo "Installing voxmint and what its tests need into $(VENV); the first time takes some minutes"
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/installed-package

$(VENV)/installed-lint: pyproject.toml | $(PY)
	@echo "Installing the linters into $(VENV)"
	@$(PIP_INSTALL) --editable '.[lint]'
	@touch $@ $(VENV)/installed-package

$(VENV)/installed-docs: pyproject.toml docs/requirements.txt | $(PY)
	@echo "Installing the builder of the documentation into $(VENV)"
	@$(PIP_INSTALL) --editable . --requirement docs/requirements.txt
	@touch $@ $(VENV)/installed-package

# The first interpreter that runs and is new enough; a half-made .venv is removed, so that the next try starts clean.
$(PY):
	@for python in "$(PYTHON)" python3 python3.13 python3.12 python3.11; do \
	    [ -n "$$python" ] || continue; \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	    echo "Making $(VENV) with $$("$$python" --version) ($$python)"; \
	    "$$python" -m venv $(VENV) && exit 0; \
	    rm -rf -- $(VENV); \
	    echo "error: $$python cannot make a virtual environment." >&2; \
	    echo "  remedy: install its venv module (Debian, Ubuntu: apt-get install python3-venv), then run make again" >&2; \
	    exit 1; \
	done; \
	echo "error: no Python 3.11 or newer found." >&2; \
	echo "  expected: python3, python3.13, python3.12 or python3.11 on the PATH" >&2; \
	echo "  remedy: install one, or name it: make PYTHON=/path/to/python3 ..." >&2; \
	exit 1

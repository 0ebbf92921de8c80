# Two commands for a fresh clone, with nothing but Python 3.11, git and make:
#
#     make serve        the app with a sample study on http://127.0.0.1:8000/clickseg/
#     make test         the test suite
#
# Both make the virtual environment on the first call, and install again only when a list of requirements has changed.
# ARGS is passed on: `make serve ARGS="--studies DIR --port 8001"`, `make test ARGS="-m slow"`.

PYTHON ?= python3.11
VENV ?= .venv
ARGS ?=
WORKERS ?= logical

# Installed without what they require themselves: see the head of requirements.txt.
ALONE := monailabel==0.8.5 dynamic-network-architectures==0.4.4

BIN := $(VENV)/bin
# Tools of the environment are called by name, too (MONAI Label does so with itkimage2segimage).
IN_VENV = PATH="$$(cd "$(BIN)" && pwd):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help install serve demo-ohif test lint format page check-page clean

help:
	@echo "make serve   serve the app on 127.0.0.1 (ARGS=\"--studies DIR --port N\")"
	@echo "make demo-ohif  OHIF, a DICOM archive (Orthanc) and the app, all on this machine"
	@echo "make test    run the tests (ARGS=\"-m slow\", ARGS=\"tests/clickseg -k clicks\")"
	@echo "make lint    ruff, mypy and the import contracts"
	@echo "make format  let ruff put the formatting right"
	@echo "make page    build the page anew (needs Node 20; users of the app do not)"
	@echo "make clean   remove caches and build products; the next call installs again"

serve: $(VENV)/.installed
	$(IN_VENV) "$(BIN)/clickseg" serve $(ARGS)

demo-ohif: $(VENV)/.installed
	$(IN_VENV) "$(BIN)/clickseg" demo-ohif $(ARGS)

# The tests of a file stay in one process: they share a server. Files that take long come first (tests/conftest.py), not
# those with many tests. WORKERS=0 runs all in this process, as a debugger needs it.
test: $(VENV)/.installed-dev
	$(IN_VENV) "$(BIN)/python" -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.installed-dev
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	PYTHONPATH=apps/clickseg "$(BIN)/lint-imports" --no-logo --no-cache

format: $(VENV)/.installed-dev
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

# The page's built form lies in the library. check-page: that it is what its source gives.
page: page/node_modules/.package-lock.json
	cd page && npm run build

check-page: page/node_modules/.package-lock.json
	cd page && npm test && node build.js build && diff -r build ../apps/clickseg/clickseg/page

page/node_modules/.package-lock.json: page/package-lock.json
	cd page && npm ci

install: $(VENV)/.installed

# A stamp is touched last, so whatever is interrupted half-way is done again.
$(VENV)/.created:
	@command -v "$(PYTHON)" >/dev/null || { echo "clickseg needs Python 3.11: no '$(PYTHON)' here (make PYTHON=/path/to/python3.11)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else "clickseg needs Python 3.11, and $(PYTHON) is %d.%d" % v)'
	"$(PYTHON)" -m venv "$(VENV)"
	@touch "$@"

$(VENV)/.installed: requirements.txt pyproject.toml Makefile | $(VENV)/.created
	"$(BIN)/python" -m pip install -r requirements.txt
	"$(BIN)/python" -m pip install --no-deps $(ALONE)
	"$(BIN)/python" -m pip install --no-deps --no-build-isolation -e .
	@touch "$@"

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	"$(BIN)/python" -m pip install -r requirements-dev.txt -c requirements.txt
	@touch "$@"

clean:
	rm -rf build dist page/build page/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache apps/clickseg/*.egg-info
	find apps tests benchmarks bundles -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	rm -f "$(VENV)/.installed" "$(VENV)/.installed-dev"

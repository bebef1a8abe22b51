# Two commands for a bare clone: `make run` and `make test`. Python >= 3.11 is all that they need.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: run test check-python clean

# A short search, then an exam of six pairs at most. On two cores 24 evaluations of 10 s each, with the
# exam about eight minutes. Where torch sees a GPU 16 of a minute each instead of five, so that all takes about an hour.
run: $(STAMP)
	$(BIN)/evolve run --export --pairs 6 $$($(BIN)/python -c 'from evaluate.device import accelerator; \
	print("--evaluations 24" if accelerator() == "cpu" else "--evaluations 16 --budget 60s")')

test: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not gpu" -n 2 --dist worksteal

$(STAMP): pyproject.toml | check-python
	@echo "installing into .venv, once; torch is the large part"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

check-python:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "error: no Python 3.11 or later found; install one, or name it: make PYTHON=/path/to/python3.12"; \
	exit 1; }

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

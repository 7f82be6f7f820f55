# `make search` and `make test` install what they need into .venv first.
PYTHON ?= python3
BIN := .venv/bin
BENCH := results/benchmarks
# Without Syne Tune, which stands in an environment of its own: --syne-python PYTHON.
PEERS := lstm_tune as_shipped ray_tutorial optuna_alone random_search

.PHONY: search test test-isa test-hostile check bench clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

search: .venv/installed
	$(BIN)/python -m tune.search --space full.yaml

# Three at a time also on two cores, for the whole searches of tests/e2e wait a lot; in the order of
# the folders, for they are few and long, and xdist, which begins with the files of the most tests,
# would leave them for one worker at the end.
test: .venv/installed
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# The tests as on other machines: CONTRIBUTING.md says more. FEW=--few: a choice of them.
test-isa: .venv/installed
	$(BIN)/python tests/isa.py $(FEW)

test-hostile: .venv/installed
	$(BIN)/python tests/hostile.py $(ONLY)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	test -d $(BENCH)/reviews || $(BIN)/python -m lstmcls.prepare reviews --tokenizer bpe --out $(BENCH)/reviews
	$(BIN)/python benchmarks/training.py $(BENCH)/reviews
	$(BIN)/python benchmarks/orchestration.py --data $(BENCH)/reviews
	$(BIN)/python benchmarks/memory.py $(BENCH)/reviews
	$(BIN)/python benchmarks/gpu.py $(BENCH)/reviews
	$(BIN)/python benchmarks/time_to_quality.py --data $(BENCH)/reviews --out $(BENCH)/quality \
		--minutes 3 --svg $(BENCH)/quality.svg $(PEERS:%=--only %)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

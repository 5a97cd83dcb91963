# Everything runs in a virtual environment of its own; a fresh machine needs git, make and python3.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-faults lint bench bench-filters stubs clean clean-cache

demo: $(VENV)/.demo
	$(BIN)/chunkfilt demo demo
	$(BIN)/chunkfilt run config/gabor_features.yaml --overwrite
	$(BIN)/chunkfilt preview demo/mosaic.zarr --out demo/mosaic.png
	$(BIN)/chunkfilt preview demo/gabor_features.zarr --array g_mean --out demo/gabor_features.png
	@echo
	@echo "The mosaic:  demo/mosaic.zarr          its picture: demo/mosaic.png"
	@echo "The result:  demo/gabor_features.zarr  its picture: demo/gabor_features.png"

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto

test-faults: $(VENV)/.test  ## kills, crashes, full disks: what a run survives; some minutes
	$(BIN)/python -m pytest -n auto -m faults

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

bench-filters: $(VENV)/.bench  ## every filter beside SciPy, scikit-image and OpenCV
	$(BIN)/python -m benchmarks filters

stubs: $(VENV)/.test  ## write chunkfilt/__init__.pyi anew, after a filter's signature changed
	$(BIN)/python -m chunkfilt.arrays.stubs

clean-cache:  ## remove compiled kernels; needed after a change in a kernel file that others import
	find chunkfilt -name '*.nb[ic]' -delete

clean: clean-cache
	rm -rf $(VENV) demo
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	touch $@

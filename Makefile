# make demo | test | lint | bench | figures | forebears | clean     (any of them works in a fresh clone)
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# The release the shipped models were trained with; any from 2.4 works.
TORCH ?= torch==2.13.0
# Sound servers and tools that the tests start on null devices; a compiler for the PESQ package.
APT = python3-venv gcc python3-dev libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils jackd2 util-linux strace \
  pipewire pipewire-bin pipewire-pulse wireplumber dbus

# Audio for `make forebears`: folders with a manifest.csv or with files, pairs to score on, minutes a training.
CORPUS ?= ../shared/corpus
CLEAN ?= $(CORPUS)
NOISE ?= $(CORPUS)
RIR ?= $(CORPUS)
PAIRS ?= $(CORPUS)/val
MINUTES ?= 2

.PHONY: help demo test lint bench figures forebears system clean
help:
	@sed -n 's/^# make/make/p' Makefile

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { $(MAKE) system && $(PYTHON) -m venv $(VENV); }

$(VENV)/.demo: $(BIN)/python pyproject.toml
	$(BIN)/pip install -q -e '.[plot]'
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(BIN)/pip install -q '$(TORCH)'
	$(BIN)/pip install -q -e '.[all]'
	@touch $@ $(VENV)/.demo

system:
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $(APT); \
	else echo "not root, or no apt-get: tests that need $(APT) will say what they miss and skip"; fi

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py

test: system $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(VENV)/.demo
	$(BIN)/rtdenoise-bench; $(BIN)/rtdenoise-bench exactness; $(BIN)/rtdenoise-bench files

figures: $(VENV)/.test
	$(BIN)/python examples/demo.py && cp demo-out/demo.png examples/demo.png
	$(BIN)/rtdenoise-bench readme README.md

forebears: $(VENV)/.test
	$(BIN)/rtdenoise-bench forebears --clean $(CLEAN) --noise $(NOISE) --rir $(RIR) --pairs $(PAIRS) \
	  --minutes $(MINUTES) --into models/FOREBEARS.md

clean:
	rm -rf $(VENV) forebears build dist demo-out .pytest_cache .hypothesis .ruff_cache .mypy_cache

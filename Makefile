# make demo           filter the noisy example, print levels and latency, draw it
# make test           every test, with the system packages it needs (as root on Debian), in PROCESSES=4 processes at
#                     once; then, in two, those that measure live latency, which need a machine without other work:
#                     of files that have such, since to import all takes six seconds.
#                     Bytecode is kept also where it is not as a rule: hundreds of commands are started.
# make test-integrations  the filter inside Pipecat, LiveKit and aiortc, which are large, in a VENV_INTEGRATIONS of its own
# make test-fast      the tests that need no sound server and no training, in under 90 s
# make test-remote    files in buckets, against an S3 server on loopback, which is installed for it
# make test-ray       archives on Ray's clusters; Ray is large and is installed for it
# make lint           ruff, ruff format, mypy, codespell
# make docs           the site, into build/docs; a warning is an error
# make bench          the latency report, exactness and speed on this machine
# make figures        the picture, the sounds and the tables of README and docs
# make release-check  sdist and wheel: metadata, contents, size, and for each of PYTHONS an installation that filters a file
# make baselines      train the baselines and compare them: CLEAN=DIR NOISE=DIR PAIRS=DIR [RIR=DIR] [MINUTES=2]
# make clean          remove what the above made
#
# Any of them works in a fresh clone.
PYTHON ?= python3
# Interpreters that a release is installed with: the oldest and the newest supported, beside the one at hand.
PYTHONS ?= $(PYTHON) python3.10 python3.13
VENV ?= .venv
VENV_INTEGRATIONS ?= .venv-integrations
BIN = $(VENV)/bin
# The release the shipped models were trained with; any from 2.10 works.
TORCH ?= torch==2.13.0
# Sound servers and tools that the tests start on null devices; a compiler for the PESQ package.
APT = python3-venv gcc python3-dev libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils jackd2 util-linux strace \
  pipewire pipewire-bin pipewire-pulse wireplumber dbus chromium
# For the tests: bytecode only of what is imported, and nothing compiled for first starts, which tests do themselves.
PIP = HATCH_BUILD_NO_HOOKS=true $(BIN)/pip install -q --no-compile
MINUTES ?= 2
PROCESSES ?= 4

.PHONY: help demo test test-integrations test-ray test-remote test-fast lint docs bench figures release-check baselines system clean
help:
	@sed -n 's/^# make/make/p' Makefile

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { $(MAKE) system && $(PYTHON) -m venv $(VENV); }

$(VENV)/.demo: $(BIN)/python pyproject.toml
	$(BIN)/pip install -q -e '.[plot]'
	@touch $@

$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(BIN)/pip install -q -e '.[docs]'
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(PIP) '$(TORCH)'
	$(PIP) -e '.[all]'
	@touch $@ $(VENV)/.demo $(VENV)/.docs

system:
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $(APT); \
	else echo "not root, or no apt-get: tests that need $(APT) will say what they miss and skip"; fi

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py

test: system $(VENV)/.test
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) -m 'not steady'
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 -m steady $$(grep -rlw steady tests --include='test_*.py')

$(VENV_INTEGRATIONS)/.test: pyproject.toml
	$(PYTHON) -m venv $(VENV_INTEGRATIONS)
	$(VENV_INTEGRATIONS)/bin/pip install -q -e . pytest hypothesis onnx pipecat-ai websockets livekit livekit-agents aiortc
	@touch $@

test-integrations: $(VENV_INTEGRATIONS)/.test
	$(VENV_INTEGRATIONS)/bin/python -m pytest tests/test_integrations.py

test-fast: $(VENV)/.test
	$(BIN)/python -m pytest --ignore=tests/live -m 'not slow'

test-ray: $(VENV)/.test
	$(BIN)/pip install -q -e '.[ray]'
	$(BIN)/python -m pytest tests/test_ray.py

test-remote: $(VENV)/.test
	$(BIN)/pip install -q -e '.[test-remote]'
	$(BIN)/python -m pytest tests/test_remote.py

lint: $(VENV)/.test
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/codespell

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -E -W --keep-going docs build/docs
	@echo "open build/docs/index.html"

bench: $(VENV)/.demo
	$(BIN)/rtdenoise-bench; $(BIN)/rtdenoise-bench exactness; $(BIN)/rtdenoise-bench files

figures: $(VENV)/.test
	$(BIN)/python examples/demo.py && cp demo-out/demo.png examples/demo.png
	$(BIN)/rtdenoise --bypass --in examples/noisy.wav --out examples/before.mp3
	$(BIN)/rtdenoise --in examples/noisy.wav --out examples/after.mp3
	$(BIN)/rtdenoise-bench readme README.md $$(grep -rl '<!-- \$$' docs --include='*.md')

release-check: $(VENV)/.test
	rm -rf dist && $(BIN)/python -m build -q --outdir dist .
	$(BIN)/python -m twine check --strict dist/rtdenoise-*
	$(BIN)/python -m pytest tests/test_distributions.py
	@for python in $(PYTHONS); do \
	  if ! $$python -V >/dev/null 2>&1; then echo "$$python: not on this machine, so not tried"; continue; fi; \
	  echo "== $$python: $$($$python -V)" && rm -rf dist/fresh dist/filtered.wav && \
	  $$python -m venv dist/fresh && dist/fresh/bin/pip install -q dist/*.whl && \
	  dist/fresh/bin/rtdenoise --in examples/noisy.wav --out dist/filtered.wav --json && \
	  dist/fresh/bin/python -I -c "import soundfile as s; \
	    assert s.info('dist/filtered.wav').frames == s.info('examples/noisy.wav').frames" || exit 1; \
	done
	@rm -rf dist/fresh && ls -l dist/rtdenoise-*

baselines: $(VENV)/.test
	@test -n "$(CLEAN)" -a -n "$(NOISE)" -a -n "$(PAIRS)" || { echo "make baselines needs folders of your own:\
	  make baselines CLEAN=speech/ NOISE=noise/ PAIRS=pairs/ (made by rtdenoise mix), and RIR=rooms/ if you have any"; exit 2; }
	$(BIN)/python experiments/baselines.py --clean $(CLEAN) --noise $(NOISE) $(if $(RIR),--rir $(RIR)) --pairs $(PAIRS) \
	  --minutes $(MINUTES) --into experiments/BASELINES.md

clean:
	rm -rf $(VENV) $(VENV_INTEGRATIONS) baselines build dist demo-out .pytest_cache .hypothesis .ruff_cache .mypy_cache

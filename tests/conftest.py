"""Fixtures shared by all tests: test graphs, shipped models, speech-like signals."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import graphs
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import list_models, load_model
from witnessed import witnessed

_configuration = tempfile.TemporaryDirectory(prefix="rtdenoise-tests-")
os.environ["XDG_CONFIG_HOME"] = _configuration.name  # what a person has configured must not show in tests
# A shell's background job ignores SIGINT, and so would every command that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("shared", deadline=None)  # An example waits while other tests have the processor.
hypothesis.settings.load_profile("shared")

# Files that measure how long something takes: no two of them run at once. The first compiles; the others do not wait.
# What needs a machine without other work is marked `steady`, and `make test` runs it after all others, two at a time.
MEASURING = """
    live/test_worker live/test_pulse live/test_pipewire live/test_jack live/test_one_core live/test_overload
    live/test_doctor test_latency_report test_cost test_bench""".split()
PROCESS = os.environ.get("PYTEST_XDIST_WORKER")  # of several that share the tests: gw0, gw1 and so on


pytest_runtest_call = pytest.hookimpl(wrapper=True)(witnessed)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Of several processes, one gives way to those with live audio once it comes to other tests, and starts all that
    these start so: they take what live audio leaves of the processors."""
    if PROCESS is not None and hasattr(os, "SCHED_IDLE") and turn(item.nodeid)[0] > len(MEASURING):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def turn(nodeid: str) -> tuple[int, str]:
    """When the tests of a file have their turn among several processes, and with which others in one process: those
    that measure, then all other live audio, since both wait more than they work, then each file on its own."""
    file = nodeid.partition("::")[0].removeprefix("tests/").removesuffix(".py")
    if file in MEASURING:
        return MEASURING.index(file), "measuring"
    if file.startswith("live/"):
        return len(MEASURING), "live, first half" if file < "live/test_o" else "live, second half"
    return len(MEASURING) + 1, file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if PROCESS is not None:
        items.sort(key=lambda item: turn(item.nodeid)[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from xdist.scheduler import LoadScopeScheduling

    class Turns(LoadScopeScheduling):
        @property
        def nodes(self) -> list:
            return sorted(super().nodes, key=lambda node: node.gateway.id)  # gw0 first, whichever was ready first

        def _split_scope(self, nodeid: str) -> str:
            return turn(nodeid)[1]

    config.option.loadscopereorder = False  # as they are collected
    return Turns(config, log)


RATES_HZ = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
SHIPPED = [info.name for info in list_models()]


@pytest.fixture(scope="session")
def graph_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="session")
def identity(graph_folder) -> Model:
    return load_model(graphs.identity(graph_folder / "identity.onnx", 385))


@pytest.fixture(scope="session")
def identity_129(graph_folder) -> Model:
    return load_model(graphs.identity(graph_folder / "identity_129.onnx", 129))


@pytest.fixture(scope="session")
def delay(graph_folder) -> Model:
    """Three frames late: a model with a state."""
    return load_model(graphs.delay(graph_folder / "delay.onnx"))


@pytest.fixture(scope="session", params=SHIPPED)
def shipped(request) -> Model:
    return load_model(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_261)


def modulated_noise(rng: np.random.Generator, samples: int, channels: int = 1, rate: int = 16_000) -> np.ndarray:
    """float32 ``[samples, channels]``: harmonics and noise that come and go as syllables do, so no model is idle."""
    t = np.arange(samples)[:, None] / rate
    voice = sum(np.sin(2 * np.pi * 130 * h * t + h) / h for h in range(1, 12)) * (np.sin(2 * np.pi * 3 * t) > 0)
    return (0.08 * voice + 0.02 * rng.standard_normal((samples, channels))).astype(np.float32)

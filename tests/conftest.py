"""Fixtures shared by all tests: test graphs, shipped models, speech-like signals."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest

import graphs
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import list_models, load_model

_configuration = tempfile.TemporaryDirectory(prefix="rtdenoise-tests-")
os.environ["XDG_CONFIG_HOME"] = _configuration.name  # what a person has configured must not show in tests
# A shell's background job ignores SIGINT, and so would every command that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

LIVE = Path(__file__).resolve().parent / "live"
TIMED = {"test_bench", "test_latency_report"}  # measure how long something takes, as the live tests do
NICE = 10  # how far the processes that measure nothing give way
FIRST_PROCESS = "gw0"  # of pytest-xdist, which gives it the largest group


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("PYTEST_XDIST_WORKER", FIRST_PROCESS) != FIRST_PROCESS and hasattr(os, "nice"):
        os.nice(NICE)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several processes of pytest-xdist share the tests by files. Those that measure time are one group, so that none
    runs beside another: the largest group, hence begun first, in the one process that does not give way."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            timed = LIVE in item.path.parents or item.path.stem in TIMED
            item.add_marker(pytest.mark.xdist_group("timed" if timed else item.path.stem))


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

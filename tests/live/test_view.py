"""What the keys of the live view do, and what it shows."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from conftest import SHIPPED
from rtdenoise.cli import live_view
from rtdenoise.errors import UsageError
from rtdenoise.geometry import CONTRACT_FRAMING, Framing
from rtdenoise.live.stats import Stats
from rtdenoise.model.contract import ModelInfo


@dataclass
class Session:
    """What `press` needs of a `LiveDenoiser`."""

    bypass: bool = False
    muted: bool = False
    strength_db: float | None = None
    model: str = "a"
    framing: Framing = CONTRACT_FRAMING
    exchanged: list[str] = field(default_factory=list)

    def exchange_model(self, name: str) -> None:
        self.exchanged.append(name)
        self.model = name


@pytest.fixture
def session(monkeypatch) -> Session:
    """With four models, one of them of another framing."""
    framings = {"a": CONTRACT_FRAMING, "b": CONTRACT_FRAMING, "slow": Framing(16), "c": CONTRACT_FRAMING}
    infos = [ModelInfo(name, Path(), 385, framing=framing) for name, framing in framings.items()]
    monkeypatch.setattr(live_view, "_installed", lambda: infos)
    return Session()


def test_b_switches_the_filter_off_and_on(session):
    assert live_view.press(session, "b")
    assert session.bypass
    live_view.press(session, "b")
    assert not session.bypass


def test_x_mutes_and_unmutes(session):
    assert live_view.press(session, "x")
    assert session.muted
    live_view.press(session, "x")
    assert not session.muted


def test_strength_goes_down_from_no_limit_and_up_to_none(session):
    live_view.press(session, "-")
    assert session.strength_db == live_view.STRONGEST_DB - live_view.STRENGTH_STEP_DB
    live_view.press(session, "+")
    assert session.strength_db is None
    for _ in range(100):
        live_view.press(session, "-")
    assert session.strength_db == 0


def test_m_goes_round_the_installed_models_of_its_framing(session):
    for _ in range(3):
        assert live_view.press(session, "m")
    assert session.exchanged == ["b", "c", "a"]
    session.model = "my own"
    live_view.press(session, "m")
    assert session.model == "a"


def test_m_says_so_where_no_other_model_fits(session):
    session.model, session.framing = "slow", Framing(16)
    with pytest.raises(UsageError, match="no other model has windows of 64 ms"):
        live_view.press(session, "m")
    assert not session.exchanged


def test_the_installed_models_are_those_that_are_listed():
    assert [info.name for info in live_view._installed()] == SHIPPED


@pytest.mark.parametrize("key", ["q", "\x1b"])
def test_q_and_escape_end_it(session, key):
    assert not live_view.press(session, key)


def test_it_shows_names_latency_dropouts_file_and_what_went_wrong():
    fields = dict.fromkeys(Stats.__dataclass_fields__, 0)
    texts = {
        "state": "running",
        "input": "a mike",
        "output": "b",
        "model": "m",
        "worker": "native",
        "scheduling": "fifo",
    }
    shown = {"latency_ms": 24.0, "measured_latency_ms": 24.1, "underruns": 7, "recorded_s": 65.0, "drift_ppm": 12.0}
    nothing = {"strength_db": None, "failure": None, "file_problem": "disk is full", "device_latency_ms": None}
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(live_view.draw(Stats(**fields | texts | shown | nothing), "a note"))
    text = console.export_text()
    for part in (
        "a mike",
        "24.1 ms, target 24.0",
        "7 (0 ms of dropout)",
        "65 s recorded",
        "+12 ppm",
        "disk is full",
        "a note",
    ):
        assert part in text

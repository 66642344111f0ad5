"""What the keys of the live view do, and what it shows."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from conftest import SHIPPED
from rtdenoise.cli import live_view
from rtdenoise.cli.live_spectrogram import COLOURS, COLUMNS_PER_S, LINES, Spectrograms, room
from rtdenoise.errors import UsageError
from rtdenoise.geometry import CONTRACT_FRAMING, Framing
from rtdenoise.live.stats import Stats
from rtdenoise.model.contract import ModelInfo
from rtdenoise.panel.history import History


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


@pytest.mark.parametrize(("key", "name"), [("f", "bypass"), ("b", "bypass"), ("m", "muted"), ("x", "muted")])
def test_f_switches_the_filter_and_m_mutes_as_in_the_panel_and_as_they_did_before(session, key, name):
    assert live_view.press(session, key)
    assert getattr(session, name)
    live_view.press(session, key)
    assert not getattr(session, name)


def test_strength_goes_down_from_no_limit_and_up_to_none(session):
    live_view.press(session, "-")
    assert session.strength_db == live_view.STRONGEST_DB - live_view.STRENGTH_STEP_DB
    live_view.press(session, "+")
    assert session.strength_db is None
    for _ in range(100):
        live_view.press(session, "-")
    assert session.strength_db == 0


def test_n_goes_round_the_installed_models_of_its_framing(session):
    for _ in range(3):
        assert live_view.press(session, "n")
    assert session.exchanged == ["b", "c", "a"]
    session.model = "my own"
    live_view.press(session, "n")
    assert session.model == "a"


def test_n_says_so_where_no_other_model_fits(session):
    session.model, session.framing = "slow", Framing(16)
    with pytest.raises(UsageError, match="no other model has windows of 64 ms"):
        live_view.press(session, "n")
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
        "backend": "pipewire",
        "device_xruns": 3,
    }
    shown = {"latency_ms": 24.0, "measured_latency_ms": 24.1, "underruns": 7, "recorded_s": 65.0, "drift_ppm": 12.0}
    nothing = {
        "strength_db": None,
        "failure": None,
        "fallback": None,
        "file_problem": "disk is full",
        "device_latency_ms": None,
        "low_cut_hz": 80.0,
        "echo_cancel": True,
        "echo_cancel_ms": 24.2,
    }
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(live_view.draw(Stats(**fields | texts | shown | nothing), "a note"))
    text = console.export_text()
    for part in (
        "a mike",
        "24.1 ms, target 24.0",
        "no limit, low cut 80 Hz",
        "7 (0 ms of dropout)",
        "65 s recorded",
        "3 lost cycles",
        "+12 ppm",
        "24 ms of the echo canceller",
        "disk is full",
        "a note",
    ):
        assert part in text
    console.print(live_view.draw(Stats(**fields | texts | shown | nothing | {"echo_cancel_ms": None})))
    assert "what is unknown of the echo canceller" in console.export_text()


def drawn_call(chosen: int, *note: str, **pictures) -> str:
    """What a call's view shows in a wide terminal."""
    numbers = dict.fromkeys(Stats.__dataclass_fields__, 0)
    numbers |= {"state": "running", "output": "b", "model": "m", "worker": "native"}
    numbers |= {"scheduling": "fifo", "backend": "pipewire"}
    numbers |= {"failure": None, "fallback": None, "file_problem": None, "device_latency_ms": None}
    mine, heard = Stats(**numbers | {"input": "a mike"}), Stats(**numbers | {"input": "the others"})
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(live_view.draw_all([mine, heard], chosen, *note, **pictures))
    return console.export_text()


def test_a_call_shows_both_directions_and_marks_the_one_that_keys_are_for():
    text = drawn_call(1, "a note")
    positions = [
        text.index(part) for part in ("  microphone", "a mike", "tab:", "▸ what you hear", "the others", "a note")
    ]
    assert positions == sorted(positions)


class Sound:
    """A tap that gives a second of noise before the filter, and silence after."""

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        noise = np.random.default_rng(1).standard_normal((48_000, 1)).astype(np.float32)
        return 0.3 * noise, 0 * noise


def drawn(width: int) -> tuple[list[str], str]:
    """The lines of spectrograms in a terminal of that width, and what is sent to it."""
    pictures = Spectrograms(History(Sound(), 48_000, COLUMNS_PER_S))
    pictures.look(width)
    sent = io.StringIO()
    console = Console(file=sent, width=width, force_terminal=True, color_system="256", record=True)
    console.print(pictures)
    return console.export_text().splitlines(), sent.getvalue()


@pytest.mark.parametrize("width", [60, 81, 200])
def test_spectrograms_stand_side_by_side_and_fill_the_width(width):
    lines, _ = drawn(width)
    side = (width - 2) // 2
    assert lines[0].split() == ["before", "after"]
    assert lines[1:] == [side * "▀" + "  " + side * "▀"] * LINES


def test_what_is_loud_is_bright_and_silence_is_black():
    _, sent = drawn(60)
    row = sent.splitlines()[4]
    before, after = row.split("  ")
    colours = [set(map(int, re.findall(r"[34]8;5;(\d+)", part))) for part in (before, after)]
    assert COLOURS[0] in colours[0]  # of the seconds that were not heard
    assert max(COLOURS.index(c) for c in colours[0]) > len(COLOURS) // 2
    assert colours[1] == {COLOURS[0]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"color_system": "truecolor"}, True),
        ({"color_system": "standard"}, False),
        ({"no_color": True, "color_system": None}, False),
        ({"width": 59}, False),
        ({"height": 23}, False),
        ({"file": io.TextIOWrapper(io.BytesIO(), encoding="ascii")}, False),
    ],
)
def test_a_terminal_without_the_colours_the_characters_or_the_room_has_none(options, expected):
    utf = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    usual = {"file": utf, "width": 60, "height": 24, "force_terminal": True, "color_system": "256"}
    assert room(Console(**usual | options)) == expected


@pytest.mark.parametrize(
    ("height", "chosen", "seen"), [(33, 0, ""), (34, 0, "m"), (34, 1, "h"), (42, 1, "h"), (43, 0, "mh")]
)
def test_a_call_shows_those_of_the_direction_that_is_marked_or_of_both_where_there_is_room(height, chosen, seen):
    utf = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    console = Console(file=utf, width=60, height=height, force_terminal=True, color_system="256")
    pictures = live_view.shown("mh", chosen, room(console, 2))
    assert "".join(pictures.values()) == seen
    text = drawn_call(chosen, pictures={k: f"picture {k}" for k in pictures})
    names = ["microphone", "a mike", *["picture 0"][: 0 in pictures], "what you hear", "the others"]
    positions = [text.index(part) for part in [*names, *["picture 1"][: 1 in pictures]]]
    assert positions == sorted(positions)
    assert text.count("picture") == len(seen)

"""What is set for a microphone holds for it alone and comes back with it, in the panel and for the command."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command import wait_for
from rtdenoise.control.client import Client
from running import output_of

aiohttp = pytest.importorskip("aiohttp")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "rtdenoise"]
DEADLINE_S = 120  # the first start after an edit compiles


@pytest.fixture
def env(pipewire_env, tmp_path) -> dict[str, str]:
    """With nothing remembered."""
    return pipewire_env | {"PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(tmp_path)}


@pytest.fixture
def url(env) -> Iterator[str]:
    process = subprocess.Popen([*COMMAND, "panel", "--no-browser"], env=env, stderr=subprocess.PIPE, text=True)
    yield re.search(r"http://127\.0\.0\.1:\d+/\S+", process.stderr.readline())[0]
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 0
    assert process.stderr.read() == ""


def after(url: str, message: dict, condition: Callable[[dict], bool]) -> dict:
    """What a page sees that sends ``message``, as soon as a session runs that meets ``condition``."""
    return seen(url, message, lambda s: s["type"] == "state" and s["phase"] == "running" and condition(s))


def seen(url: str, message: dict, condition: Callable[[dict], bool]) -> dict:
    """The first that a page is told which meets ``condition``, once it has sent ``message``."""

    async def talk() -> dict:
        origin = url.rsplit("/", 2)[0]
        async with aiohttp.ClientSession() as client, client.ws_connect(url + "ws", origin=origin) as page:
            await page.send_json(message)
            async for said in page:
                if said.type is aiohttp.WSMsgType.TEXT and condition(told := json.loads(said.data)):
                    return told
        raise AssertionError("the panel hung up")

    return asyncio.run(asyncio.wait_for(talk(), DEADLINE_S))


def opened(url: str, sink: str) -> dict:
    return after(url, {"choose": {"input": f"{sink}.monitor"}}, lambda s: f"of {sink}" in s["status"]["input"])


def live(env, *argv: str) -> tuple[dict, str]:
    line = [*COMMAND, "--in", "A.monitor", "--out", "B", "--seconds", "0.3", "--json", *argv]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def kept_in(env) -> Path:
    return Path(env["XDG_CONFIG_HOME"]) / "rtdenoise/microphones.json"


def kept(env) -> dict:
    return json.loads(kept_in(env).read_text()) if kept_in(env).exists() else {}


def keep(env, text: str) -> None:
    kept_in(env).parent.mkdir(exist_ok=True)
    kept_in(env).write_text(text, encoding="utf-8")


def ctl(env, *argv: str) -> dict:
    return json.loads(output_of(env, *COMMAND, "ctl", *argv, "--json"))


def test_each_microphone_has_its_own_in_the_panel_and_for_ctl(url, env):
    opened(url, "A")
    after(url, {"set": {"strength_db": 24}}, lambda s: s["status"]["strength_db"] == 24)
    after(url, {"set": {"low_cut_hz": 80}}, lambda s: s["status"]["low_cut_hz"] == 80)
    at_b = opened(url, "B")["settings"]
    assert (at_b["strength_db"], at_b["low_cut_hz"]) == (None, None)
    assert ctl(env, "strength", "6")["strength_db"] == 6
    assert opened(url, "A")["settings"]["strength_db"] == 24
    assert opened(url, "B")["settings"]["strength_db"] == 6
    after(url, {"choose": {"channels": "2"}}, lambda s: s["status"]["channels"] == 2)
    assert opened(url, "A")["status"]["channels"] == 1
    after(url, {"choose": {"profile": "podcast"}}, lambda s: s["status"]["strength_db"] == 12)
    assert opened(url, "B")["settings"]["strength_db"] == 6
    opened(url, "A")
    after(url, {"set": {"strength_db": 9}}, lambda s: s["status"]["strength_db"] == 9)
    expected = {
        "Monitor of B": {"strength": 6, "channels": 2},
        "Monitor of A": {"strength": 9, "low_cut": 80},
    }
    wait_for(lambda: kept(env) == expected)
    assert stat.S_IMODE(kept_in(env).stat().st_mode) == 0o600


def test_a_command_that_comes_between_two_microphones_waits_and_is_for_the_second(url, env, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", env["XDG_RUNTIME_DIR"])
    opened(url, "A")
    for sink, strength in (("B", 7), ("A", 25)):
        seen(url, {"choose": {"input": f"{sink}.monitor"}}, lambda s, at=sink: s["choices"]["input"] == f"{at}.monitor")
        with Client() as client:
            status = client.ask("set", {"strength_db": strength})["status"]
        assert (f"of {sink}" in status["input"], status["strength_db"]) == (True, strength)
    expected = {"Monitor of B": {"strength": 7}, "Monitor of A": {"strength": 25}}
    wait_for(lambda: kept(env) == expected)
    before = ctl(env, "status")["seconds"]
    opened(url, "A")  # the same once more is no new session
    after(url, {"set": {"strength_db": 9}}, lambda s: s["status"]["strength_db"] == 9)
    assert ctl(env, "status")["seconds"] > before


def test_the_command_takes_what_is_kept_and_says_so_unless_it_is_told_otherwise(env):
    keep(env, '{"Monitor of A": {"low_cut": 80, "strength": 9}}')
    record, said = live(env)
    assert (record["strength_db"], record["low_cut_hz"]) == (9, 80)
    assert "Monitor of A: low cut 80 Hz, strength 9 dB, as set in the panel" in said
    record, said = live(env, "--profile", "far-microphone")
    assert (record["strength_db"], record["low_cut_hz"]) == (18, 80)
    assert "Monitor of A: low cut 80 Hz, as set in the panel" in said


def test_a_file_that_somebody_damaged_meanwhile_is_left_as_it_is_and_the_page_told(url, env):
    opened(url, "A")
    keep(env, "{")
    told = seen(url, {"set": {"strength_db": 5}}, lambda s: s["type"] == "refused")
    assert f"not remembered: {kept_in(env)} is not valid JSON" in told["problem"]
    assert kept_in(env).read_text() == "{"


def test_a_model_that_is_gone_is_named_with_the_file_that_wants_it(env):
    keep(env, '{"Monitor of A": {"model": "unett"}}')
    line = [*COMMAND, "--in", "A.monitor", "--out", "B", "--seconds", "0.3"]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown model 'unett'" in done.stderr
    assert f"(model: see {kept_in(env)})" in done.stderr

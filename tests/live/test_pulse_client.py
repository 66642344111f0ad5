"""Our Pulse streams share no memory with the server, which could else hang them for ever; all else is the user's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from command import DEADLINE_S
from rtdenoise.live import pulse
from rtdenoise.live.pulse_client import NAMED
from rtdenoise_bench.testbed import servers

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="of Linux' sound servers")]

ROOT = Path(__file__).resolve().parents[2]


# A stream as a session opens it, without the session's own connection, which reads no sound and so cannot hang.
OPENS = """
import sounddevice
from rtdenoise.live import pulse
with pulse.addressed("A.monitor"):
    stream = sounddevice.InputStream(device="pulse", samplerate=48000, channels=1)
    stream.start()
stream.read(4800)
maps = open("/proc/self/maps").read()
print("libpulse" in maps, "memfd:pulse" in maps or "/dev/shm/pulse" in maps)
"""


def test_a_stream_shares_no_memory_with_its_server():
    with servers.pulseaudio() as env:
        line = [sys.executable, "-c", OPENS]
        done = subprocess.run(
            line, env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=DEADLINE_S
        )
    assert done.stdout.split() == ["True", "False"], done.stderr


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("PULSE_CONFIG_PATH", raising=False)
    monkeypatch.delenv(NAMED, raising=False)
    (tmp_path / "pulse").mkdir()
    return tmp_path / "pulse"


def told() -> list[str]:
    """The lines that the library reads while a stream opens."""
    with pulse.addressed():
        file = Path(os.environ[NAMED])
        lines = file.read_text(encoding="utf-8").splitlines()
    assert not file.parent.exists()
    return lines


def test_what_the_user_has_set_stays_set(home):
    (home / "client.conf.d").mkdir()
    files = [home / "client.conf", *(home / "client.conf.d" / f"{n}.conf" for n in (1, 2))]
    for file in files:
        file.write_text("autospawn = no\n", encoding="utf-8")
    (home / "client.conf.d" / "3.off").touch()
    assert told() == [*(f".include {file}" for file in files), "enable-shm = no"]


def test_a_file_that_the_user_names_comes_before_all_others(home, tmp_path, monkeypatch):
    (home / "client.conf").touch()
    mine = tmp_path / "mine.conf"
    mine.touch()
    monkeypatch.setenv(NAMED, str(mine))
    assert told() == [f".include {mine}", "enable-shm = no"]
    assert os.environ[NAMED] == str(mine)


def test_without_a_place_for_the_file_a_stream_opens_all_the_same(home, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(home / "nowhere"))
    with pulse.addressed("a", "b"):
        assert NAMED not in os.environ
        assert os.environ["PULSE_SINK"] == "b"
    assert NAMED not in os.environ

"""What the sound server says is what we know: rates, channels, defaults; nothing is left open, nothing hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from programs import pactl
from rtdenoise.errors import DeviceError
from rtdenoise.live import pulse, server
from rtdenoise_bench.testbed import servers

ROOT = Path(__file__).resolve().parents[2]
SINKS = {"phone": (1, 8_000), "eight": (8, 96_000), "A": (1, 48_000), "B": (1, 48_000)}  # channels, rate in Hz


@pytest.fixture
def env(pulse_env, monkeypatch) -> dict[str, str]:
    """Also this process's own environment meanwhile."""
    for name in [n for n in os.environ if n.startswith(("PULSE_", "XDG_RUNTIME"))]:
        monkeypatch.delenv(name)
    for name, value in pulse_env.items():
        monkeypatch.setenv(name, value)
    return pulse_env | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def odd_sinks(env):
    added = [
        pactl(env, "load-module", "module-null-sink", f"sink_name={name}", f"channels={channels}", f"rate={rate}")
        for name, (channels, rate) in SINKS.items()
        if name not in "AB"
    ]
    yield
    for module in added:
        pactl(env, "unload-module", module)


def test_devices_lists_each_with_its_own_rate_and_channels(env, odd_sinks):
    line = [sys.executable, "-m", "rtdenoise", "devices", "--json"]
    listed = subprocess.run(line, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {d["endpoint"]: d for d in map(json.loads, listed) if d["endpoint"]}
    for name, (channels, rate) in SINKS.items():
        assert (found[name]["outputs"], found[name]["rate"]) == (channels, rate)
        assert (found[f"{name}.monitor"]["inputs"], found[f"{name}.monitor"]["rate"]) == (channels, rate)


def test_answers_stay_right_while_the_server_and_this_process_are_busy(env, odd_sinks):
    wrong, end = [], threading.Event()

    def churn() -> None:
        while not end.is_set():
            pactl(env, "unload-module", pactl(env, "load-module", "module-null-sink", "sink_name=churn", "channels=6"))

    def look() -> None:
        for _ in range(60):
            found = {e.name: (e.channels, e.rate) for e in pulse.endpoints()[1] if not e.is_source}
            wrong.extend((n, found.get(n)) for n, expected in SINKS.items() if found.get(n) != expected)

    churner, lookers = threading.Thread(target=churn), [threading.Thread(target=look) for _ in range(3)]
    for t in (churner, *lookers):
        t.start()
    for t in lookers:
        t.join()
    end.set()
    churner.join()
    assert wrong == []


def test_what_stands_on_our_microphone_is_ours(env):
    microphone = ("module-remap-source", "source_name=rtdenoise_microphone", "master=A.monitor")
    modules = [
        pactl(env, "load-module", *microphone),
        pactl(env, "load-module", "module-remap-source", "source_name=over", "master=rtdenoise_microphone"),
    ]
    try:
        own = {e.name for e in pulse.endpoints()[1] if e.own}
    finally:
        for module in reversed(modules):
            pactl(env, "unload-module", module)
    assert own == {"rtdenoise_microphone", "over"}


def test_mic_is_not_our_microphone_though_it_is_the_default(env):
    pactl(env, "load-module", "module-pipe-source", "source_name=true", f"file={env['XDG_RUNTIME_DIR']}/true")
    microphone = ("module-remap-source", "source_name=rtdenoise_microphone", "master=A.monitor")
    made = pactl(env, "load-module", *microphone)
    pactl(env, "set-default-source", "rtdenoise_microphone")
    line = [sys.executable, "-c", "from rtdenoise.live.devices import *; print(find_device('mic', 'input').endpoint)"]
    ask = lambda: subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    try:
        assert ask().stdout == "true\n"
        pactl(env, "unload-module", "module-pipe-source")
        alone = ask()
        assert alone.stdout == ""
        assert "rtdenoise's own, and there is no other; available: " in alone.stderr.splitlines()[-1]
    finally:
        pactl(env, "set-default-source", "A.monitor")
        pactl(env, "unload-module", made)


@pytest.mark.parametrize("before", [{}, {"PULSE_LATENCY_MSEC": "200", "PULSE_SINK": "A", "PULSE_PROP_OVERRIDE": "x=y"}])
def test_the_environment_is_as_before_after_streams_have_opened(monkeypatch, before):
    for name in ("PULSE_LATENCY_MSEC", "PULSE_SINK", "PULSE_SOURCE", "PULSE_PROP_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    kept = dict(os.environ)
    with pulse.addressed("A.monitor", None):
        assert os.environ["PULSE_SOURCE"] == "A.monitor"
        assert os.environ.get("PULSE_SINK") == before.get("PULSE_SINK")
        assert "PULSE_LATENCY_MSEC" not in os.environ
    assert dict(os.environ) == kept
    with pytest.raises(RuntimeError), pulse.addressed("A.monitor", "B"):
        raise RuntimeError("a stream that does not open")
    assert dict(os.environ) == kept


def test_a_server_that_refuses_once_is_asked_again(monkeypatch, tmp_path):
    """As a busy one does: the socket takes the connection and closes it."""
    import socket

    path = tmp_path / "native"
    monkeypatch.setenv("PULSE_SERVER", f"unix:{path}")
    taken = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def refuse() -> None:
            for _ in range(server.ATTEMPTS):
                taken.append(listener.accept()[0])
                taken[-1].close()

        refusing = threading.Thread(target=refuse)
        refusing.start()
        before = len(os.listdir("/proc/self/fd"))
        with server.connection() as client:
            assert client is None
        refusing.join(10)
        assert len(os.listdir("/proc/self/fd")) == before
    assert len(taken) == server.ATTEMPTS
    assert "does not respond" in server.refusal[0]
    path.unlink()
    with server.connection() as client:
        assert client is None
    assert not server.refusal


def test_a_server_that_ends_while_it_is_asked_is_one_error(monkeypatch):
    with servers.pulseaudio() as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        (pid,) = servers.processes("pulseaudio", env)

        def end() -> None:
            with server.connection() as client:
                os.kill(pid, signal.SIGKILL)
                for _ in range(100):
                    client.sink_list()

        with pytest.raises(DeviceError, match="closed the connection"):
            end()


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(server, "ANSWER_S", 0.3)
    with servers.pulseaudio() as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        (pid,) = servers.processes("pulseaudio", env)

        def ask() -> None:
            with server.connection() as client:
                os.kill(pid, signal.SIGSTOP)
                client.sink_list()

        try:
            with pytest.raises(DeviceError, match="no response in"):
                ask()
            with server.connection() as client:
                assert client is None
        finally:
            os.kill(pid, signal.SIGCONT)

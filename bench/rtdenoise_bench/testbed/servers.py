"""Sound servers of our own, on null devices and in a folder of their own, for tests and measurements.

Nothing here touches the sound system of the person who runs it: sockets, state and configuration lie below one folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

REALTIME = ["chrt", "-a", "-f", "-p", "75"]  # Without it a server's latency wanders by 100 ms on a busy machine.
READY_S = 15
# One that plays to nobody takes sound for two seconds ahead, to take it back when somebody plays, and who records its
# monitor waits so long. Sound cards take a fraction of that; without taking back, so does this.
NULL_SINK = "module-null-sink norewinds=1 channels=1"
PIPEWIRE = ("pipewire-pulse", "wireplumber", "pipewire")


def missing(*programs: str) -> str:
    """Why a server cannot run here, or nothing."""
    absent = [p for p in programs if shutil.which(p) is None]
    return f"not installed: {', '.join(absent)} (make system)" if absent else ""


@contextlib.contextmanager
def _process(argv: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    with log.open("wb") as out:
        process = subprocess.Popen(argv, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(ready, what: str, log: Path) -> None:
    end = time.monotonic() + READY_S
    while not ready():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not start: {log.read_text()[-500:]}")
        time.sleep(0.05)


def _realtime(pid: int) -> None:
    subprocess.run([*REALTIME, str(pid)], capture_output=True, check=False)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rtd-") as name:
        for sub in ("run", "home"):
            (Path(name) / sub).mkdir(mode=0o700)
        yield Path(name)


@contextlib.contextmanager
def pulseaudio(sinks: tuple[str, ...] = ("A", "B"), rate: int = 48_000) -> Iterator[dict[str, str]]:
    """PulseAudio with mono null sinks; yields the environment its clients need."""
    with _folder() as d:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PULSE_", "PIPEWIRE_", "DBUS_", "XDG_"))}
        env |= {"XDG_RUNTIME_DIR": f"{d}/run", "PULSE_RUNTIME_PATH": f"{d}/run/pulse", "PULSE_STATE_PATH": f"{d}/state"}
        env |= {"HOME": f"{d}/home", "PULSE_SERVER": f"unix:{d}/run/pulse/native", "JACK_NO_START_SERVER": "1"}
        with pulseaudio_again(env, sinks, rate):
            yield env


@contextlib.contextmanager
def pulseaudio_again(
    env: dict[str, str], sinks: tuple[str, ...] = ("A", "B"), rate: int = 48_000
) -> Iterator[subprocess.Popen]:
    """The server of this environment, after the one before has ended."""
    socket = env["PULSE_SERVER"].removeprefix("unix:")
    argv = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--log-level=error"]
    argv += ["-L", f"module-native-protocol-unix auth-anonymous=1 socket={socket}"]
    for sink in sinks:
        argv += ["-L", f"{NULL_SINK} sink_name={sink} rate={rate}"]
    log = Path(env["HOME"]) / "log"
    with _process(argv, env, log) as server:
        ask = lambda: subprocess.run(["pactl", "info"], env=env, capture_output=True, check=False).returncode == 0
        _wait(ask, "pulseaudio", log)
        _realtime(server.pid)
        yield server


@contextlib.contextmanager
def pipewire_pulse_again(env: dict[str, str]) -> Iterator[subprocess.Popen]:
    """PipeWire's PulseAudio face in this environment, after the one before has ended."""
    log = Path(env["HOME"]) / "log"
    with _process(["pipewire-pulse"], env, log) as server:
        _wait(lambda: "PipeWire" in _answer(["pactl", "info"], env), "pipewire-pulse", log)
        _realtime(server.pid)
        yield server


@contextlib.contextmanager
def jack(rate: int = 48_000, frames: int = 256, realtime: bool = True) -> Iterator[dict[str, str]]:
    """A JACK server on the dummy back end; yields the environment its clients need."""
    name = f"rtd{uuid.uuid4().hex[:8]}"
    with _folder() as d:
        env = os.environ | {"JACK_DEFAULT_SERVER": name, "JACK_NO_START_SERVER": "1", "HOME": f"{d}/home"}
        priority = ["-R", "-P70"] if realtime else ["-r"]
        argv = ["jackd", "-n", name, *priority, "-t", "2000", "-d", "dummy", "-r", str(rate), "-p", str(frames)]
        log = d / "log"
        with _process([*argv, "-C", "2", "-P", "2"], env, log):
            ask = lambda: subprocess.run(["jack_lsp"], env=env, capture_output=True, check=False).returncode == 0
            _wait(ask, "jackd", log)
            yield env


def wait_for_jack_connection(env: dict[str, str], one: str, other: str) -> None:
    """Return when two JACK ports are connected; a probe says so by this that it is at work."""
    end = time.monotonic() + READY_S
    while other not in _answer(["jack_lsp", "-c", one], env):
        if time.monotonic() > end:
            raise RuntimeError(f"{one} was never connected to {other}")
        time.sleep(0.05)


@contextlib.contextmanager
def pipewire(sinks: tuple[str, ...] = ("A", "B"), rate: int = 48_000, quantum: int = 128) -> Iterator[dict[str, str]]:
    """PipeWire with its PulseAudio face and null sinks; yields the environment its clients need."""
    with _folder() as d:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PULSE_", "PIPEWIRE_", "DBUS_", "XDG_"))}
        env |= {"XDG_RUNTIME_DIR": f"{d}/run", "HOME": f"{d}/home", "XDG_CONFIG_HOME": f"{d}/config"}
        env |= {"PULSE_SERVER": f"unix:{d}/run/pulse/native", "JACK_NO_START_SERVER": "1"}
        nodes = " ".join(
            f"{{ factory = adapter args = {{ factory.name = support.null-audio-sink node.name = {s} "
            f"node.description = {s} media.class = Audio/Sink audio.position = MONO object.linger = true "
            f"monitor.channel-volumes = true }} }}"
            for s in sinks
        )
        clock = f"default.clock.rate={rate} default.clock.quantum={quantum} default.clock.min-quantum=32"
        folder = d / "config/pipewire/pipewire.conf.d"
        folder.mkdir(parents=True)
        (folder / "null.conf").write_text(f"context.properties = {{ {clock} }}\ncontext.objects = [ {nodes} ]\n")
        script = "pipewire & sleep 0.5; wireplumber & pipewire-pulse & wait"
        log = d / "log"
        with _process(["dbus-run-session", "--", "sh", "-c", script], env, log):
            # Sinks are there at once, a default only when the session manager is at work: until then none can be set.
            ask = lambda: _answer(["pactl", "get-default-sink"], env).strip() in sinks
            _wait(ask, "pipewire", log)
            parts = [p for name in PIPEWIRE for p in processes(name, env)]
            for pid in parts:
                _realtime(pid)
            try:
                yield env
            finally:
                for pid in parts + processes("dbus-daemon", env):  # which its starter leaves behind
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)


def _answer(argv: list[str], env: dict[str, str]) -> str:
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False).stdout


def processes(name: str, env: dict[str, str]) -> list[int]:
    """Processes of this name that live in the runtime folder of ``env``, as their environment tells."""
    found, mark = [], f"XDG_RUNTIME_DIR={env['XDG_RUNTIME_DIR']}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            same = (process / "comm").read_text().strip() == name[:15]
            if same and mark in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found

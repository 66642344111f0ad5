"""Sound does not notice what is done to the panel's server, by those who know its address and those who do not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rtdenoise.control.client import Client
from rtdenoise_bench.measure import correlation, recordings
from running import DEADLINE_S, hammering, lost, memory_bytes, wait_until

pytest.importorskip("aiohttp")
pytestmark = [pytest.mark.slow, pytest.mark.steady]
ROOT = Path(__file__).resolve().parents[2]
PAGES, READERS, REQUESTS_PER_S, HAMMER_S = 6, 14, 1000, 2.0
STALL_SHARE = 0.01  # Of the time: what the host may stall in either run, which is not the product's doing.
GET = b"GET /%s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n"
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://127.0.0.1:%d\r\n"
)


class Panel:
    """A panel that runs, as who knows its ``url`` can reach it."""

    def __init__(self, url: str, pid: int):
        port, token = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([^/]+)/", url).groups()
        self.url, self.pid, self.port, self.token = url, pid, int(port), token.encode()

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        client.settimeout(0.5)
        return client

    def get(self, name: bytes, headers: bytes = b"") -> bytes:
        return GET % (self.token, b"/" + name, self.port, headers)

    def page(self) -> socket.socket:
        client = self.connect()
        client.sendall(self.get(b"ws", UPGRADE % self.port))
        return client


@pytest.fixture(scope="module")
def panel(pipewire_env, plain_path) -> Iterator[Panel]:
    env = pipewire_env | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "rtdenoise", "panel", "--no-browser", "--in", "A.monitor", "--model", str(plain_path)]
    with pytest.MonkeyPatch.context() as patch, recordings.pulse_playing(env, "A", correlation.noise(60), times=20):
        patch.setenv("XDG_RUNTIME_DIR", env["XDG_RUNTIME_DIR"])
        process = subprocess.Popen(line, env=env, stderr=subprocess.PIPE, text=True)
        url = re.search(r"http://127\.0\.0\.1:\d+/\S+", process.stderr.readline())[0]
        wait_until(lambda: (s := status_of()).get("seconds", 0) > 1.5 and s["measured_latency_ms"])
        yield Panel(url, process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr.read() == ""  # whatever was sent to it


def status_of() -> dict:
    """The session's, or nothing as long as none runs."""
    with contextlib.suppress(Exception), Client() as client:
        return client.ask("status")["status"]
    return {}


def frame(text: bytes, length: int | None = None) -> bytes:
    """A masked text message of a WebSocket, which may claim to be longer."""
    length = len(text) if length is None else length
    size = struct.pack("!BB", 0x81, 0x80 | length) if length < 126 else struct.pack("!BBQ", 0x81, 0xFF, length)
    return size + b"\0\0\0\0" + text  # A mask of zeros changes nothing.


def drained(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while client.recv(1 << 16):
            pass


def hammer(panel: Panel, ending: threading.Event, done: list[int], is_page: bool) -> None:
    """One client at its share of the requests, which reads all answers; a page sends commands, others ask for files."""
    names = (b"", b"panel.js", b"report.txt", b"texts/de.json", b"nothing")
    while not ending.is_set():
        with contextlib.suppress(OSError), panel.page() if is_page else panel.connect() as client:
            client.settimeout(30)
            reader = threading.Thread(target=drained, args=(client,), daemon=True)
            reader.start()
            due = time.monotonic()
            while not ending.wait(max(0.0, due - time.monotonic())):
                due += (PAGES + READERS) / REQUESTS_PER_S
                command = json.dumps({"set": {"strength_db": len(done) % 3}}).encode()
                client.sendall(frame(command) if is_page else panel.get(names[len(done) % len(names)]))
                done.append(1)
            client.shutdown(socket.SHUT_RDWR)


def nuisance(panel: Panel, ending: threading.Event, disturb: Callable[[Panel], object]) -> None:
    while not ending.wait(0.02):
        with contextlib.suppress(OSError):
            disturb(panel)


def deaf_page(panel: Panel) -> None:
    with panel.page() as client:
        for _ in range(5000):
            client.sendall(frame(b'{"set": {"muted": false}}'))


def deaf_reader(panel: Panel) -> None:
    with panel.connect() as client:
        client.sendall(20 * panel.get(b"replay.wav"))
        time.sleep(0.5)


def garbage(panel: Panel) -> None:
    with panel.connect() as client:
        client.sendall(os.urandom(100_000))


def ten_megabytes(panel: Panel) -> None:
    with panel.page() as client:
        client.sendall(frame(b"x" * 10_000_000, 10_000_000))


def long_body(panel: Panel) -> None:
    with panel.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 10_000_000)


def garbage_for_a_page(panel: Panel) -> None:
    with panel.page() as client:
        client.sendall(frame(b'{"set": {"strength_db": "'))
        client.sendall(os.urandom(50_000))


def half_a_request(panel: Panel) -> None:
    with panel.connect() as client:
        client.sendall(b"GET /" + panel.token)
        time.sleep(0.5)


NUISANCES = (deaf_page, deaf_reader, garbage, ten_megabytes, long_body, garbage_for_a_page, half_a_request)


def test_sound_does_not_notice_that_the_panel_is_hammered(panel, capsys):
    quiet, latency_ms = lost(status_of, HAMMER_S)
    before, ending, done = memory_bytes(panel.pid), threading.Event(), []
    roles = [True] * PAGES + [False] * READERS
    threads = [threading.Thread(target=hammer, args=(panel, ending, done, is_page)) for is_page in roles]
    threads += [threading.Thread(target=nuisance, args=(panel, ending, disturb)) for disturb in NUISANCES]
    with hammering(threads, ending):
        hammered, hammered_ms = lost(status_of, HAMMER_S)
    grown_mb = (memory_bytes(panel.pid) - before) / 1e6
    with capsys.disabled():
        print(
            f"\npanel: {len(done) / HAMMER_S:.0f} requests/s from {len(roles)} clients, {len(NUISANCES)} nuisances: "
            f"lost {100 * hammered:.2f} % of the time, {100 * quiet:.2f} % without; latency "
            f"{hammered_ms:.2f} ms, {latency_ms:.2f} ms without; {grown_mb:.0f} MB more memory"
        )
    assert len(done) > REQUESTS_PER_S / 2 * HAMMER_S
    assert hammered <= quiet + STALL_SHARE
    assert abs(hammered_ms - latency_ms) < 1
    assert grown_mb < 100  # mostly ten seconds of sound for each who asked for them and does not read; it stays there


def test_afterwards_a_page_is_let_in_and_answered_at_once(panel):
    time.sleep(0.5)  # What came before has been read by now.
    began = time.monotonic()
    with panel.page() as client:
        client.settimeout(10)
        client.sendall(frame(b'{"set": {"strength_db": 17}}'))
        data = b""
        while b'"strength_db": 17' not in data:
            data += client.recv(1 << 16)
    assert time.monotonic() - began < 1

"""The first start of the panel on a machine says that it compiles, and Ctrl-C ends it meanwhile."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from command import wait_for

pytest.importorskip("aiohttp")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
AT_ONCE_S = 15  # and not the minute that compiling takes


def test_it_says_that_it_compiles_and_ends_at_once_with_nothing_left(pipewire_env, nearly_compiled):
    env = pipewire_env | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": nearly_compiled}
    line = [sys.executable, "-m", "rtdenoise", "panel", "--no-browser"]
    process = subprocess.Popen(line, env=env, stderr=subprocess.PIPE, text=True)
    url = re.search(r"http://127\.0\.0\.1:\d+/\S+", process.stderr.readline())[0]
    plain = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    wait_for(lambda: b"phase: compiling" in plain.open(url + "report.txt").read())
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(AT_ONCE_S * 10) == 0
    assert time.monotonic() - began < AT_ONCE_S
    assert process.stderr.read() == ""
    assert list((Path(env["XDG_RUNTIME_DIR"]) / "rtdenoise").iterdir()) == []
    sources = subprocess.run(
        ["pactl", "list", "short", "sources"], env=env, capture_output=True, text=True, check=False
    )
    assert sources.returncode == 0, sources.stderr
    assert "rtdenoise" not in sources.stdout
